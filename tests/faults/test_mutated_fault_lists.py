"""Fault lists and fault tables that somebody has changed: refused in one line, or they are run."""

import random
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import BitproofError
from bitproof.faults.execute import check_faults, faults_by_node, faulty_node
from bitproof.faults.table import COLUMNS, SITES, FaultTable, read_fault_list, write_fault_list
from bitproof.injection.golden import Golden
from bitproof.injection.sealed import digest_columns, encode, prepare, read_fault_table
from bitproof.quant import IntegerNetwork, quantize
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op

SEED = 18
LONGEST = 500
"""Characters of a refusal."""
SECONDS = 10
"""Time that one file may take."""
LISTS, TABLES = 700, 300
IMAGES = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
ROWS = [
    (0, "weight", "0", 5, -1, 7, "flip"),
    (0, "bias", "0", 1, -1, 0, "stuck1"),
    (1, "activation", "0", 40, -1, 3, "stuck0"),
    (1, "input", "3", 2, -1, 3, "flip"),
    (2, "product", "0", 40, 4, 12, "flip"),
    (3, "accumulator", "3", 1, -1, 31, "flip"),
    (4, "operand", "3", 2, 7, 1, "stuck1"),
    (5, "pe_sum", "0", 3, -1, 9, "stuck1"),
]
VALUES = [
    *("", "-", "0", "-1", "1", "2", "8", "31", "63", "64", "255", "256", "4294967296"),
    *(str(10**12), str(10**19), "9" * 5000, "1.5", "nan", "0x1", "1e3", " 1", "१", "é", "\0"),
    *("x" * 100_000, "x" * 200_000, '"', '"a\nb"', "a\rb", "flip", "weight", "0,0", "=1+1"),
]


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
    return quantize(nn.Sequential(*layers), torch.rand(8, 2, 6, 6))


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Bound the memory that may be claimed beside what the process has already."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + (4 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def changed_text(text: str, drawn: random.Random) -> bytes:
    """Return a list with one change of a cell, a line, the columns or the bytes."""
    rows = [line.split(",") for line in text.splitlines()]
    row = drawn.randrange(len(rows))
    cell = drawn.randrange(len(COLUMNS))
    change = drawn.choice(
        ["cell"] * 8 + ["near", "less", "more", "line", "columns", "bytes", "cut"]
    )
    if change == "cell":
        rows[row][cell] = drawn.choice(VALUES)
    elif change == "near":
        row = drawn.randrange(1, len(rows))
        cell = drawn.choice([0, 3, 4, 5])
        rows[row][cell] = str(int(rows[row][cell]) + drawn.choice([-2, -1, 1, 2, 7, 100]))
    elif change == "less":
        del rows[row][cell]
    elif change == "more":
        rows[row].insert(cell, drawn.choice(VALUES))
    elif change == "line":
        rows.insert(row, drawn.choice([rows[0], rows[-1], [""], ["#", "note"], list(COLUMNS) * 9]))
    elif change == "columns":
        for one in rows:
            one[0], one[cell] = one[cell], one[0]
    content = bytearray("\n".join(",".join(one) for one in rows).encode())
    at = drawn.randrange(len(content))
    if change == "bytes":
        content[at : at + drawn.choice([1, 8])] = drawn.randbytes(drawn.choice([1, 8, 300]))
    elif change == "cut":
        del content[at:]
    return bytes(content)


def changed_table(table: FaultTable, drawn: random.Random) -> bytes:
    """Return a sealed table with a change that its seal does not show."""
    columns = {name: getattr(table, name).copy() for name in COLUMNS}
    facts = {"part": "faults", "layers": '["0", "3"]', "n_trials": str(table.n_trials)}
    name = drawn.choice(COLUMNS)
    change = drawn.choice(["value", "value", "facts", "type", "name", "gone", "bytes"])
    if change == "value":
        columns[name] = columns[name].astype(np.int64)
        columns[name][drawn.randrange(len(table))] = drawn.choice(
            [-1, 0, 3, 64, 255, 256, 2**31, 2**40, 2**40 + 1, 10**12, 2**62, -(2**63)]
        )
    elif change == "facts":
        key = drawn.choice(sorted(facts))
        wrong = ["", "0", "-1", str(10**12), "9" * 5000, "[1]", "{}", '["a"]', "[" * 10**5, "nan"]
        facts[key] = drawn.choice(wrong)
    elif change == "type":
        columns[name] = columns[name].astype(drawn.choice([np.float64, np.int16, np.uint64]))
    elif change == "name":
        columns[drawn.choice(["more", name.upper()])] = columns.pop(name)
    elif change == "gone":
        del columns[name]
    facts["sha256"] = digest_columns(prepare(columns))
    content = bytearray(encode(prepare(columns), facts))
    if change == "bytes":
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    return bytes(content)


def stop(*_: object) -> None:
    raise TimeoutError(f"{SECONDS} s are over")


def outcome(read: Callable[[], FaultTable], network: IntegerNetwork, path: Path) -> str:
    """Return what becomes of a list: refused, run, or something that must not be."""
    shapes = Golden.run(network, IMAGES).shapes
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        table = read()
        check_faults(network, table, shapes)
        run(table, network)
    except BitproofError as error:
        short = len(str(error).replace(str(path), "")) <= LONGEST and "\n" not in str(error)
        return "refused" if short else f"long: {error}"[:300]
    except Exception as error:  # what this looks for
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "ran"


def run(table: FaultTable, network: IntegerNetwork) -> None:
    """Run the nodes that the first trials break."""
    values = execute(
        network.nodes, lambda node, xs: integer_op(network, node, xs, IMAGES), keep=True
    )
    nodes = {node.name: node for node in network.nodes}
    for trial in range(min(table.n_trials, 8)):
        for name, faults in faults_by_node(table.of_trial(trial)).items():
            node = nodes[name]
            faulty_node(network, node, [values[one] for one in node.inputs], IMAGES, faults)


def check_all(found: Counter[str]) -> None:
    print(dict(found))  # noqa: T201 - figures of the slow run
    wrong = {text: count for text, count in found.items() if text not in {"refused", "ran"}}
    assert not wrong
    assert found["ran"] > 10
    assert found["refused"] > 100


@pytest.mark.slow
def test_changed_lists_are_refused_or_run(network: IntegerNetwork, tmp_path: Path) -> None:
    path, layers = tmp_path / "faults.csv", [node.name for node in network.nodes]
    write_fault_list(FaultTable.from_rows(ROWS), path)
    text = path.read_text(encoding="utf-8")
    assert outcome(lambda: read_fault_list(path, layers=layers), network, path) == "ran"
    found: Counter[str] = Counter()
    for number in range(LISTS):
        path.write_bytes(changed_text(text, random.Random(f"{SEED} {number}")))
        found[outcome(lambda: read_fault_list(path, layers=layers), network, path)] += 1
    check_all(found)


@pytest.mark.slow
def test_changed_tables_are_refused_or_run(network: IntegerNetwork, tmp_path: Path) -> None:
    path, table = tmp_path / "faults.parquet", FaultTable.from_rows(ROWS)
    assert {SITES.index(row[1]) for row in ROWS} == set(table.site.tolist())
    found: Counter[str] = Counter()
    for number in range(TABLES):
        path.write_bytes(changed_table(table, random.Random(f"{SEED} {number}")))
        found[outcome(lambda: read_fault_table(path), network, path)] += 1
    check_all(found)
