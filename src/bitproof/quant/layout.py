"""What the JSON of a stored network looks like: its keys, and the type of each value."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from bitproof.core.errors import WeightsError, shorten

SCHEMA = 1
"""Version of the JSON layout."""
MOST_AXES = 16
"""Axes of a tensor."""
WORDS = (torch.uint8, torch.int8, torch.int16, torch.int32)
"""Dtypes of stored words."""
MOST_TABLES = 1 << 14
"""Tables of products that all nodes together may list; each takes 256 KiB."""


class _Table(BaseModel):
    """A table of JSON with these keys and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _NodeEntry(_Table):
    name: str = Field(min_length=1)
    op: str
    inputs: list[str]
    attrs: dict[str, Any]
    path: str = ""
    memory: str = ""


class _GridEntry(_Table):
    bits: int
    signed: bool
    axis: int | None


class _ProductsEntry(_Table):
    signed: bool
    tables: list[int] = Field(min_length=1)
    names: list[str]


class _LayerEntry(_Table):
    name: str
    op: str
    sqnr_db: float
    own_sqnr_db: float


class _FidelityEntry(_Table):
    images: int
    sqnr_db: float
    agreement: float
    layers: list[_LayerEntry]


class _Layout(_Table):
    version: int = Field(alias="schema")
    rounding: Literal["nearest", "truncate"]
    nodes: list[_NodeEntry] = Field(min_length=1)
    tensors: dict[str, _GridEntry]
    grids: dict[str, _GridEntry]
    input_shape: list[int] | None = None
    """Absent in files from before it was kept."""
    products: dict[str, _ProductsEntry] = Field(default_factory=dict)
    fidelity: _FidelityEntry | None = None
    words_sha256: str = ""
    """Of the file with the tensors; empty in files from before it was kept."""
    sha256: str = ""
    """Of everything else in the layout."""


def read_layout(text: str | bytes) -> dict[str, Any]:
    """Return the layout that a JSON text holds; its values have the types that they should.

    Raises:
        WeightsError: it is none, or one of another schema.
    """
    try:
        layout = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"no JSON ({error})") from None
    if not isinstance(layout, dict):
        raise WeightsError(f"wanted a table, got {type(layout).__name__}")
    if layout.get("schema") != SCHEMA:
        raise WeightsError(f"wanted schema {SCHEMA}, got {shorten(layout.get('schema'))}")
    try:
        _Layout.model_validate(layout)
    except ValidationError as error:
        raise WeightsError(_first_problem(error)) from None
    tables = sum(len(entry["tables"]) for entry in layout.get("products", {}).values())
    if tables > MOST_TABLES:
        raise WeightsError(f"products: wanted at most {MOST_TABLES} tables, got {tables}")
    return layout


def layout_sha256(layout: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a layout, without the one that it holds."""
    content = {name: value for name, value in layout.items() if name != "sha256"}
    plain = json.loads(json.dumps(content))  # as it is read: keys are texts
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_sums(layout: dict[str, Any], words: bytes) -> None:
    """Check that a layout is as it was written, and that the file of tensors belongs to it.

    Raises:
        WeightsError: they are not.
    """
    if layout.get("sha256") and layout["sha256"] != layout_sha256(layout):
        raise WeightsError("changed since it was written: its sha256 does not match")
    wanted = layout.get("words_sha256")
    if wanted and wanted != hashlib.sha256(words).hexdigest():
        raise WeightsError("the tensors are those of another network, or changed")


def check_tensors(layout: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Check that the tensors that a layout speaks of are there, with their dtypes and axes.

    Raises:
        WeightsError: one is missing, or another.
    """
    for name, (dtypes, axes) in _described(layout).items():
        if name not in tensors:
            raise WeightsError(f"no tensor {shorten(name)}")
        found = tensors[name]
        if found.dtype not in dtypes or found.ndim not in axes:
            wanted = f"{' or '.join(map(str, dtypes))} with {axes[0]} to {axes[-1]} axes"
            came = f"{found.dtype} with {found.ndim}"
            raise WeightsError(f"{shorten(name)}: wanted {wanted}, got {came}")
    pairs = [(f"scale.{name}", f"zero_point.{name}") for name in _grid_names(layout)]
    pairs += [(f"choice.{name}", f"offset.{name}") for name in layout.get("products", {})]
    for first, second in pairs:
        shapes = tuple(tensors[first].shape), tuple(tensors[second].shape)
        if shapes[0] != shapes[1]:
            came = f"{shapes[0]} and {shapes[1]}"
            raise WeightsError(f"{shorten(first)}, {shorten(second)}: wanted one shape, got {came}")


def check_all_read(layout: dict[str, Any], tensors: Iterable[str]) -> None:
    """Check that a layout speaks of all tensors.

    Raises:
        WeightsError: there are others.
    """
    for name in sorted(set(tensors) - _described(layout).keys()):
        raise WeightsError(f"holds the tensor {shorten(name)}, which nothing reads")


def _described(layout: dict[str, Any]) -> dict[str, tuple[tuple[torch.dtype, ...], range]]:
    """Return the dtypes and the numbers of axes that each tensor may have."""
    found: dict[str, tuple[tuple[torch.dtype, ...], range]] = {}
    for name in layout["tensors"]:
        found[f"codes.{name}"] = WORDS, range(MOST_AXES + 1)
    for name in _grid_names(layout):
        found[f"scale.{name}"] = (torch.float32,), range(2)
        found[f"zero_point.{name}"] = (torch.int32,), range(2)
    for name, entry in layout.get("products", {}).items():
        found[f"choice.{name}"] = (torch.int64,), range(1, 2)
        found[f"offset.{name}"] = (torch.int32,), range(1, 2)
        found |= {f"table.{place}": ((torch.int32,), range(2, 3)) for place in entry["tables"]}
    return found


def _grid_names(layout: dict[str, Any]) -> list[str]:
    tensors = [f"tensor.{name}" for name in layout["tensors"]]
    return tensors + [f"grid.{name}" for name in layout["grids"]]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shorten(twice)} is there twice")
    return found


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:60] for part in problem["loc"])
    wanted = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}: {wanted}, got {shorten(problem['input'])}"
