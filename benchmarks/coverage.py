"""How many public models go through bitproof, unchanged, and what each loses on the way.

Every model of `public_models` is captured, quantized to 8 bits, compared with itself in floats and
with torch's own int8 network on the same calibration inputs, and then corrupted, attacked, injected
with 20 faults, stored and loaded again. Each has a process of its own, with limits on time and
memory; weights are random, with norms that fit (`public_models.waking`), and nothing is fetched.

    pip install --no-deps -r benchmarks/public_models/requirements.txt
    python benchmarks/coverage.py --json coverage.json --markdown docs/supported-networks.md

Rows are kept in FILE of `--log` as they come: a second call does what is missing.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from coverage_measures import Row, measure
from coverage_page import outcome, page, summary, table
from public_models import MODELS, Entry
from public_models.fake_torchvision import stand_in_for_torchvision
from torch_int8 import warm_up

from bitproof.core.files import write_text
from bitproof.core.json_lines import JsonLines

SECONDS = 300
"""Of processor time for each model."""
PATIENCE = 4
"""Limit on wall time, in units of `SECONDS`: for a machine that does other work as well."""
GIGABYTES = 8


def main() -> None:
    options = _options()
    chosen = [entry for entry in MODELS if _fits(entry, options.only)]
    if options.list:
        print("\n".join(entry.key for entry in chosen))
        return
    log = JsonLines(options.log)
    rows = {row["key"]: row for row in log.read(dict)}
    todo = [entry for entry in chosen if entry.key not in rows or _again(rows[entry.key], options)]
    if todo:
        _import_packages()
        warm_up()
    theirs = {key: _theirs(row) for key, row in rows.items()} if options.again != "all" else {}
    for row in _run(todo, theirs, options):
        log.append(row)
        rows[row["key"]] = row
        print(f"{row['key']:48} {outcome(row)}", flush=True)
    found = [rows[entry.key] for entry in chosen if entry.key in rows]
    print(table(found) + "\n\n" + summary(found))
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.markdown:
        write_text(options.markdown, page(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    add = parser.add_argument
    add("--only", nargs="*", default=[], metavar="PATTERN", help="models whose name holds it")
    add("--list", action="store_true", help="print the names of the models and stop")
    add("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    add("--markdown", type=Path, metavar="FILE", help="write the page of the docs to FILE")
    add("--log", type=Path, default=Path("coverage.jsonl"), metavar="FILE", help="rows so far")
    add("--jobs", type=int, default=1, metavar="N", help="models at once, one thread each")
    add("--seconds", type=int, default=SECONDS, help="processor time for a model")
    again = "measure anew: what failed; all, but not the rival; or all and the rival"
    add("--again", choices=("failed", "ours", "all"), help=again)
    add("--no-rival", action="store_true", help="leave torch's own quantization out")
    return parser.parse_args()


def _fits(entry: Entry, patterns: Sequence[str]) -> bool:
    return not patterns or any(
        pattern in entry.key or fnmatch(entry.key, pattern) for pattern in patterns
    )


def _again(row: Row, options: argparse.Namespace) -> bool:
    if "rival" not in row and not options.no_rival:
        return True
    return options.again in {"all", "ours"} or (options.again == "failed" and outcome(row) != "ok")


def _theirs(row: Row) -> Row:
    """Return what an earlier row says of the rival, which changes of bitproof do not change."""
    return {name: value for name, value in row.items() if name.startswith("rival")}


def _import_packages() -> None:
    """Import what models come from, once: the processes of the models are forks of this one."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = ["transformers", "torchao.quantization.pt2e.quantize_pt2e", "timm", "vit_pytorch"]
    for name in names:
        if name == "timm":  # transformers looks for torchvision when it is imported, not later
            stand_in_for_torchvision()
        try:
            import_module(name)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)


def _run(
    entries: Sequence[Entry], theirs: Mapping[str, Row], options: argparse.Namespace
) -> Iterator[Row]:
    """Yield the row of each entry, in the order in which they end."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(entries), {}
    while waiting or running:
        while waiting and len(running) < options.jobs:
            entry = waiting.pop(0)
            known = theirs.get(entry.key, {})
            rival = not known and not options.no_rival
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_measure, args=(entry, sender, rival, options.seconds), daemon=True
            )
            process.start()
            sender.close()
            row = {
                "key": entry.key,
                "family": entry.family,
                "name": entry.name,
                "stage": "start",
                **known,
            }
            running[receiver] = (process, row, time.monotonic())
        for receiver in [*wait(list(running), timeout=1.0), *running]:
            if receiver not in running:
                continue
            process, row, start = running[receiver]
            late = time.monotonic() - start > PATIENCE * options.seconds
            if _collect(receiver, row) and not late:
                continue
            if late:
                process.kill()
            process.join()
            del running[receiver]
            late |= process.exitcode in {-signal.SIGXCPU, -signal.SIGKILL}
            yield _closed(row, process.exitcode, late=late)


def _collect(receiver: Connection, row: Row) -> bool:
    """Add to `row` what has come; return whether more may come."""
    try:
        while receiver.poll():
            row.update(receiver.recv())
    except EOFError:
        return False
    return True


def _closed(row: Row, exitcode: int | None, *, late: bool) -> Row:
    if late:
        row[_step_of(row)] = "took more than its time or memory"
    elif row["stage"] != "done":
        row[_step_of(row)] = row.get("error", f"the process ended with code {exitcode}")
    return row


def _step_of(row: Row) -> str:
    return {"quantize": "quantized", "start": "build"}.get(row["stage"], row["stage"])


def _measure(entry: Entry, sender: Connection, rival: bool, seconds: int) -> None:
    """Measure one model, in a process of its own."""
    limit = GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        for part in measure(entry, rival=rival):
            sender.send(part | {"seconds": round(time.process_time(), 1)})
    except Exception as error:  # of the package or of this harness: kept in the row
        line = re.sub(r"\s+", " ", str(error))[:400]
        sender.send({"error": f"TRACEBACK {type(error).__name__}: {line}"})
    sender.close()


if __name__ == "__main__":
    main()
