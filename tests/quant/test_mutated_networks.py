"""Files of networks that somebody, or a broken disk, has changed: refused in one line, or they run.

Mutations are drawn from a seed and tried in a child process, where a crash is one more outcome and
not the end of the test. The child is this file, run as a script.
"""

import copy
import json
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import BitproofError
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, load_network, quantize
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op
from bitproof.quant.operations import MAC_OPS, MEMORY_OPS, MOVING_OPS, OPERATIONS
from bitproof.quant.products import Products
from bitproof.quant.shapes import check_shapes, infer_shapes
from tests.quant.unsealed import save_unsealed

SEED = 18
LONGEST = 500
"""Characters of a refusal."""
SECONDS = 10
"""Time that one file may take."""
MEMORY = 16 << 30
"""Bytes of addresses that the child may take, which torch's libraries have some of."""
PER_NETWORK = {"json": 700, "tensor": 250, "grids": 150, "bytes": 150}
"""Mutations of each sort, for each network."""

Files = dict[str, bytes]
"""Contents of a network's two files, by suffix."""


class Maps(nn.Module):
    """Images: convolutions, pools, norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.apart = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4)
        self.norm, self.scale, self.head = nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.conv((x - 0.5) / 0.25)))
        padded = functional.pad(x, (1, 1, 1, 1), value=-float("inf"))
        x = functional.max_pool2d(padded, 3, 1) + functional.avg_pool2d(x, 3, 1, 1)
        x = self.scale(torch.cat([x, functional.pad(x, [0, 0, 1, 1])[:, :, 1:-1]], 2)).clamp(-1, 1)
        x = functional.adaptive_avg_pool2d(self.apart(functional.gelu(x)), (3, 3))
        return torch.sigmoid(self.head(x.mean((2, 3))))


class Attention(nn.Module):
    """Sequences: products of activations, a mask, norms of rows, words of 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 2, stride=2), nn.LayerNorm(4)
        self.second, self.head = nn.RMSNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        scores = (y @ y.transpose(1, 2)).masked_fill(torch.ones(9, 9).triu(1).bool(), -1e9)
        x = x + y + self.second(scores.softmax(-1) @ y)
        return functional.log_softmax(self.head(x.mean(1)), 1)


class Elementwise(nn.Module):
    """Everything else that takes one word after another, or moves them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.line = nn.ConvTranspose2d(2, 4, 2, stride=2), nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)[:, [2, 0, 3, 1], 2:8, 3:9]
        y = functional.normalize(x, dim=1) - x / (x.abs().mean((1, 2, 3), keepdim=True) + 1)
        y = torch.maximum(y, x * 0.5) * torch.minimum(x, y) + x.norm(dim=1, keepdim=True)
        y = y + x.amax(2, keepdim=True).expand_as(x) + x.amin(3, keepdim=True)
        y = functional.log_softmax(y.flip(2).flatten(2), 1) * 2
        result: Tensor = self.line(y).amax(2)
        return result


class Tokens(nn.Module):
    """Numbers of tokens: an embedding, which the last layer shares."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(12, 4), nn.Embedding(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x.view(-1, 5)[:, 1:]) + self.place(torch.arange(4))
        return functional.linear(functional.silu(x), self.table.weight)


ACCURATE = Scheme(weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True), bias=None)
NARROW = Scheme(weight=AffineQuantizer(bits=3), activation_bits=5, activation_rounding="truncate")
VECTOR = Scheme(weight=ACCURATE.weight, bias=None, vector_bits=16)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Scheme]] = {
    "maps": (Maps, NARROW),
    "attention": (Attention, VECTOR),
    "elementwise": (Elementwise, ACCURATE),
    "tokens": (Tokens, ACCURATE),
    "products": (Maps, Scheme()),
}


@cache
def build(name: str) -> IntegerNetwork:
    """Return one of the networks that are changed."""
    torch.manual_seed(0)
    make, scheme = NETWORKS[name]
    images = torch.randint(12, (8, 5)) if make is Tokens else torch.rand(8, 2, 6, 6)
    network = quantize(make().eval(), images, scheme)
    if name != "products":
        return network
    words = torch.arange(256).int()
    exact, rough = words.outer(words), words.outer(words) & ~7
    products = {}
    for node in network.nodes:
        weight = network.tensors.get(node.key("weight"))
        if node.op in MAC_OPS and weight is not None:
            filters = len(weight.codes)
            choice = torch.arange(filters) % 2
            offset = torch.zeros(filters, dtype=torch.int32)
            tables = torch.stack([exact, rough])
            products[node.name] = Products(tables, False, choice, offset, ("exact", "rough"))
    return network.with_products(products)


# Mutations


def values(layout: dict[str, Any], drawn: random.Random) -> list[Any]:
    """Return what is put in the place of a value."""
    names = [node["name"] for node in layout["nodes"]]
    numbers = [0, -1, 1, 2, 3, 7, 100, 2**16, 2**31, 2**63, 10**12, 10**30, 10**5000]
    reals = [0.5, -1.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")]
    others: list[Any] = [
        "",
        "x",
        "\x00",
        "a\nb",
        "y" * 10_000,
        None,
        True,
        False,
        [],
        {},
        [0],
        [-1],
        [[]],
    ]
    return [*numbers, *reals, *others, drawn.choice(names), [drawn.choice(names)], [1] * 40]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return every container of a tree, with every key or index of it."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from places(tree[key])


def mutate_json(files: Files, drawn: random.Random) -> tuple[str, Files]:
    """Change one value of the layout, or what nodes are there."""
    layout = json.loads(files[".json"])
    nodes = layout["nodes"]
    what = drawn.choices(["value", "node", "nodes", "number"], [6, 6, 2, 4])[0]
    if what == "nodes":
        change = drawn.choice(["swap", "twice", "gone", "op", "attrs", "inputs"])
        one, other = drawn.sample(range(len(nodes)), 2)
        if change == "swap":
            nodes[one], nodes[other] = nodes[other], nodes[one]
        elif change == "twice":
            nodes.insert(other, copy.deepcopy(nodes[one]))
        elif change == "gone":
            del nodes[one]
        elif change == "op":
            nodes[one]["op"] = drawn.choice(sorted(OPERATIONS))
        else:
            nodes[one][change] = copy.deepcopy(nodes[other][change])
        text = f"{change} {one} {other}"
    else:
        node = drawn.choice(nodes)
        tree = layout if what == "value" else node
        found = list(places(tree))
        if what == "number":  # sizes, places and switches, which are numbers
            found = [
                (box, key) for box, key in places(node["attrs"]) if not isinstance(box[key], list)
            ] or found
        where = node["name"] if tree is node else ""
        box, key = drawn.choice(found)
        before = str(box[key])[:40]
        change = drawn.choice(["put", "put", "put", "near", "remove", "repeat"])
        if change == "near" and isinstance(box[key], int | float):
            box[key] += drawn.choice([-2, -1, 1, 2])
        elif change == "remove":
            del box[key]
        elif change == "repeat" and isinstance(box, list):
            box.insert(drawn.randrange(len(box) + 1), copy.deepcopy(box[key]))
        else:
            box[key] = drawn.choice(values(layout, drawn))
        now = repr(box[key])[:60] if change == "put" and not _is_huge(box[key]) else ""
        text = f"{change} {where} {key}: {before} -> {now}"
    return text, {**files, ".json": _dump(layout)}


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 1000


def _dump(layout: dict[str, Any]) -> bytes:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    text = json.dumps(layout)
    sys.set_int_max_str_digits(limit)
    return text.encode()


def mutate_tensor(files: Files, drawn: random.Random) -> tuple[str, Files]:
    """Change one tensor, or which ones there are."""
    tensors = load(files[".safetensors"])
    name = drawn.choice(sorted(tensors))
    old = tensors[name]
    change = drawn.choice([*CHANGES, "other", "one entry", "missing", "extra", "renamed"])
    if change in CHANGES:
        tensors[name] = CHANGES[change](old).contiguous().clone()
    elif change == "other":
        tensors[name] = tensors[drawn.choice(sorted(tensors))].clone()
    elif change == "one entry":
        tensors[name] = _with_one(old, drawn)
    elif change == "extra":
        tensors["codes.more"] = old.clone()
    else:
        del tensors[name]
        if change == "renamed":
            tensors[f"{name}x"] = old
    return f"{change} {name}", {**files, ".safetensors": save(tensors)}


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "fewer": lambda old: old.flatten()[: old.numel() // 2],
    "flat": Tensor.flatten,
    "more axes": lambda old: old[None],
    "many axes": lambda old: old.reshape(*[1] * 20, *old.shape),
    "turned": lambda old: old.permute(*reversed(range(old.ndim))),
    "one": lambda old: old.flatten()[0],
    "empty": lambda old: old.flatten()[:0],
    "float": Tensor.double,
    "half": Tensor.half,
    "long": Tensor.long,
    "bytes": lambda old: old.to(torch.uint8),
    "signed": lambda old: old.to(torch.int8),
    "largest": lambda old: torch.full_like(old, _end(old, low=False)),
    "least": lambda old: torch.full_like(old, _end(old, low=True)),
    "zeros": torch.zeros_like,
    "nan": lambda old: old + float("nan") if old.is_floating_point() else old + 1,
    "inf": lambda old: old + float("inf") if old.is_floating_point() else old - 1,
    "tiny": lambda old: old * 1e-40 if old.is_floating_point() else old // 2,
}
"""What becomes of a tensor, by the name of the change."""


def _end(old: Tensor, *, low: bool) -> float:
    info = torch.finfo(old.dtype) if old.is_floating_point() else torch.iinfo(old.dtype)
    return info.min if low else info.max


def _with_one(old: Tensor, drawn: random.Random) -> Tensor:
    new = old.clone().reshape(-1)
    new[drawn.randrange(len(new))] = _end(old, low=drawn.random() < 0.5)
    return new.reshape(old.shape)


def mutate_grids(files: Files, drawn: random.Random) -> tuple[str, Files]:
    """Change where the words of one output lie, for all that hand them on; or those of a tensor."""
    layout, tensors = json.loads(files[".json"]), load(files[".safetensors"])
    nodes = {node["name"]: node for node in layout["nodes"]}
    written = [n for n in layout["grids"] if nodes[n]["op"] not in MOVING_OPS | MEMORY_OPS]
    point = drawn.choice([0, 128, -4, 300, 2**20, 2**20 + 1, 2**24, 2**30, 2**31 - 2**16, -(2**31)])
    factor = drawn.choice([1.0, 1e-30, 1e-6, 1e6, 1e30])
    if drawn.random() < 0.5:
        name = drawn.choice(sorted(layout["tensors"]))
        keys = [f"tensor.{name}"]
    else:
        name = drawn.choice(written)
        names = {name}
        for node in layout["nodes"]:  # in order of execution
            if node["op"] in MOVING_OPS and node["inputs"][0] in names:
                names.add(node["name"])
        words = {"bits": drawn.choice([2, 5, 8, 16]), "signed": drawn.random() < 0.5}
        for one in names & layout["grids"].keys():
            layout["grids"][one] |= words
        keys = [f"grid.{one}" for one in names & layout["grids"].keys()]
    for key in keys:
        tensors[f"zero_point.{key}"] = torch.full_like(tensors[f"zero_point.{key}"], point)
        tensors[f"scale.{key}"] *= factor
    changed = {".json": _dump(layout), ".safetensors": save(tensors)}
    return f"{name}: {point}, {factor:g} times the scale", changed


def mutate_bytes(files: Files, drawn: random.Random) -> tuple[str, Files]:
    """Change one file without regard to what it holds."""
    suffix = drawn.choice(sorted(files))
    content = bytearray(files[suffix])
    # Half of the changes are at the start, where safetensors keeps its header.
    at = drawn.randrange(len(content) if drawn.random() < 0.5 else min(len(content), 4096))
    change = drawn.choice(["flip", "flip", "zeros", "cut", "garbage", "append", "double"])
    if change == "flip":
        content[at] ^= 1 << drawn.randrange(8)
    elif change == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif change == "cut":
        del content[at:]
    elif change == "garbage":
        content[at : at + 64] = drawn.randbytes(64)
    elif change == "append":
        content += drawn.randbytes(at % 100 + 1)
    else:
        content[at:at] = content[at : at + 32]
    return f"{change} {suffix} at {at}", {**files, suffix: bytes(content)}


MUTATIONS = {
    "json": mutate_json,
    "tensor": mutate_tensor,
    "grids": mutate_grids,
    "bytes": mutate_bytes,
}


def mutations(name: str, files: Files) -> Iterator[tuple[str, Files]]:
    """Return the changed files of one network, each with what was changed."""
    for sort, count in PER_NETWORK.items():
        for number in range(count):
            drawn = random.Random(f"{SEED} {name} {sort} {number}")
            try:
                text, changed = MUTATIONS[sort](files, drawn)
            except (TypeError, ValueError, IndexError, RuntimeError):
                continue  # there is no such change of this value
            yield f"{sort} {number}: {text}", changed


# One file


def outcome(path: Path, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return what becomes of a network's files: refused, run, or something that must not be."""
    try:
        network = load_network(path)
    except BitproofError as error:
        fits = len(str(error)) - len(str(path)) <= LONGEST and "\n" not in str(error)
        return ("refused" if fits else "long"), str(error)
    network.digest()
    if network.input_shape is None:
        try:
            check_shapes(network, shape)
        except BitproofError as error:
            return "refused", str(error)
    sizes = (2, *(network.input_shape or shape))
    if network.tokens is not None:
        network(torch.randint(network.tokens, sizes))
        return "ran", ""
    images = torch.rand(sizes)
    network(images[:1])
    network(images)
    network.differentiable(images)
    return "ran", ""


def stop(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"{SECONDS} s are over")


def try_all(name: str, folder: Path, start: int) -> None:
    """Print what becomes of each mutation from one on."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, stop)
    files = {one: (folder / f"{name}{one}").read_bytes() for one in (".json", ".safetensors")}
    shape = tuple(json.loads(files[".json"])["input_shape"])
    for number, (text, changed) in enumerate(mutations(name, files)):
        if number < start:
            continue
        print(json.dumps(["try", number, text]), flush=True)  # noqa: T201 - to the parent
        for suffix, content in changed.items():
            (folder / f"changed{suffix}").write_bytes(content)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            found = outcome(folder / "changed", shape)
        except TimeoutError as error:
            found = "hung", str(error)
        except Exception as error:  # what this looks for
            found = "raised", f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(["end", number, *found]), flush=True)  # noqa: T201


def outcomes(name: str, folder: Path) -> tuple[Counter[str], list[str]]:
    """Return how often each outcome came, and what must not be, in words."""
    save_unsealed(build(name), folder / name)
    counts, wrong, start = Counter[str](), list[str](), 0
    while True:
        module = "tests.quant.test_mutated_networks"
        command = [sys.executable, "-m", module, name, str(folder), str(start)]
        root = Path(__file__).parents[2]
        child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
        lines = [json.loads(line) for line in child.stdout.splitlines()]
        tried = {number: text for kind, number, text, *_ in lines if kind == "try"}
        ended = {number: rest for kind, number, *rest in lines if kind == "end"}
        for number, (found, text) in ended.items():
            counts[found] += 1
            if found not in {"refused", "ran"}:
                wrong.append(f"{name} {tried[number]}: {found} {text}")
        crashed = tried.keys() - ended.keys()
        for number in crashed:
            counts["crashed"] += 1
            wrong.append(f"{name} {tried[number]}: crashed ({child.returncode})")
        if not crashed:
            assert child.returncode == 0, child.stderr[-2000:]
            return counts, wrong
        start = max(crashed) + 1


@pytest.mark.slow
def test_the_networks_hold_every_operation() -> None:
    found = {node.op for name in NETWORKS for node in build(name).nodes}
    assert found == OPERATIONS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_by_rule_are_those_that_come_out(name: str) -> None:
    network = build(name)
    assert network.input_shape is not None
    for n in (1, 2, 5):
        inputs = torch.zeros(n, *network.input_shape)
        wanted = execute(network.nodes, partial(integer_op, network, inputs=inputs), keep=True)
        found = infer_shapes(network, tuple(inputs.shape))
        assert found == {name: tuple(words.shape) for name, words in wanted.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_changed_files_are_refused_or_run(name: str, tmp_path: Path) -> None:
    counts, wrong = outcomes(name, tmp_path)
    print(name, dict(counts))  # noqa: T201 - figures of the slow run
    assert not wrong, "\n".join([f"{len(wrong)} of {counts.total()}", *wrong[:20]])
    assert counts.total() > 900
    assert counts["ran"] > 20


if __name__ == "__main__":
    try_all(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
