"""A user's forward as a list of calls, each with its value in two example runs.

Model:  the two batches differ in size and brightness. A number that differs between the runs is a
        multiple of the batch size; every other number is a constant of the graph. So shape
        arithmetic in the user's code needs no rules, and neither does what is computed from
        weights alone.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Ref
from bitproof.quant.graph import BATCH

RUNS = ((2, 1.0), (5, 0.75))
"""Images in each example run, and how bright they are."""

Values = dict[str, Any]
"""The value of every traced node in one run, by name."""


@dataclass(frozen=True, eq=False)
class Step:
    """One traced call."""

    name: str
    """Unique."""
    kind: Literal["input", "stored", "layer", "function", "output"]
    target: Any
    """A layer, the name of a function, or the path of a stored tensor."""
    path: str
    """Where it is in the user's model."""
    arguments: tuple[tuple[Any, Any], tuple[Any, Any]]
    """Positional and named arguments, as each of the two runs has them."""
    reads: tuple[str, ...]
    """Steps among the arguments."""
    values: tuple[Any, Any]
    """What it gave in each run."""
    where: str = ""
    """The line of the user's code, for messages."""

    def resolve(self, refs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return its arguments, steps replaced by `refs`, and multiples of the batch marked."""

        def merged(first: Any, second: Any) -> Any:
            if isinstance(first, fx.Node):
                return refs[first.name]
            if isinstance(first, tuple | list):
                each = [merged(a, b) for a, b in zip(first, second, strict=True)]
                return each if isinstance(first, list) else tuple(each)
            if isinstance(first, dict):
                return {key: merged(value, second[key]) for key, value in first.items()}
            if isinstance(first, slice):
                return slice(
                    *(merged(*pair) for pair in zip(_ends(first), _ends(second), strict=True))
                )
            return merge(first, second, self.path)

        args, kwargs = (merged(*pair) for pair in self.arguments)
        return tuple(args), dict(kwargs)


@dataclass(frozen=True, eq=False)
class Captured:
    """A forward, call by call."""

    steps: Sequence[Step]
    by: Literal["fx", "export"]
    """What captured it."""


def merge(first: Any, second: Any, path: str) -> Any:
    """Return a number, shape or other non-tensor as the graph stores it.

    Raises:
        TraceError: it depends on the images.
    """
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return [merge(a, b, path) for a, b in zip(first, second, strict=True)]
    if isinstance(first, slice) or first is second or first == second:
        return first
    (n, _), (m, _) = RUNS
    if isinstance(first, int) and first % n == 0 and first // n * m == second:
        return [BATCH, first // n]
    raise TraceError(
        f"{path}: wanted a number that does not depend on the images, or a multiple of their "
        f"count, got {first} for {n} images and {second} for {m}"
    )


def _ends(part: slice) -> tuple[Any, Any, Any]:
    return part.start, part.stop, part.step


def leaves(result: Any) -> dict[str, Any]:
    """Return what a forward returns by name, or by number where it has none; no nested parts.

    Of a part that holds several things the first one counts; what holds no tensors is left out.
    """
    if isinstance(result, Ref | Tensor | fx.Node):
        return {"0": result}
    if not isinstance(result, dict | tuple | list):
        return {}
    pairs = result.items() if isinstance(result, dict) else enumerate(result)
    found = {str(name): list(leaves(part).values())[:1] for name, part in pairs}
    return {name: each[0] for name, each in found.items() if each}


def example_batches(example: Tensor) -> list[Tensor]:
    """Return the inputs of the `RUNS`: the first image, several times, in new memory.

    Tokens have no brightness: the second run has those of the last input, moved by one place.
    """
    if not example.is_floating_point():
        others = example[:1], example[-1:].roll(1, -1)
        pairs = zip(others, RUNS, strict=True)
        return [row.repeat(n, *[1] * (example.ndim - 1)) for row, (n, _) in pairs]
    return [example[:1].repeat(n, *[1] * (example.ndim - 1)) * light for n, light in RUNS]


def run_once(module: nn.Module, images: Tensor, run: Callable[[], Any]) -> Any:
    """Return what `run` gives without gradients.

    Raises:
        TraceError: the user's forward raised something.
    """
    try:
        with torch.no_grad():
            return run()
    except Exception as error:  # whatever the user's forward raises
        raise TraceError(
            f"example: {type(module).__name__} does not run on inputs of shape "
            f"{tuple(images.shape)} ({first_line(error)}){line_of(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of a message, or the kind of an error without one."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def line_of(error: BaseException) -> str:
    """Return the last line of the user's code that an error went through, for a message."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if is_users(frame.filename) and frame.line
    ]
    return (
        f" at {_short(frames[-1].filename, frames[-1].lineno, frames[-1].line)}" if frames else ""
    )


def line_in(stack: str | None) -> str:
    """Return the last line of the user's code in a printed stack, for a message."""
    lines = (stack or "").splitlines()
    found = ""
    for head, code in pairwise(lines):
        parts = head.strip().split('"')
        if len(parts) == 3 and head.strip().startswith("File ") and is_users(parts[1]):
            number = parts[2].split("line ")[-1].split(",")[0]
            found = _short(parts[1], number, code)
    return found


def is_users(filename: str) -> bool:
    """Tell whether a file is neither torch's nor this library's nor the interpreter's."""
    parts = Path(filename).parts
    return not ({"torch", "bitproof", "importlib"} & set(parts)) and not filename.startswith("<")


def _short(filename: str, number: Any, code: str | None) -> str:
    return f"{Path(filename).name}:{number}: {(code or '').strip()}"


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back every attribute of every module: modes, and what a tracer or a forward leaves."""
    holders: list[dict[str, Any]] = []
    for module in model.modules():
        holders += [vars(module), module._parameters, module._buffers]
    before = [dict(holder) for holder in holders]
    try:
        yield
    finally:
        for holder, content in zip(holders, before, strict=True):
            holder.clear()
            holder.update(content)
