"""Weights in files: read without running anything, checked key by key, written whole or not at all.

Reads `.safetensors`, `.npz` and PyTorch's `.pt`, `.pth`, `.th`; writes `.safetensors`. A file may
leave out what training did not make (`Normalize` buffers, batch counters): those stay as built.
"""

import copy
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from bitproof.core.errors import UnsafeFileError, WeightsError, shorten
from bitproof.core.files import read_bytes
from bitproof.core.tensor_files import parse_tensors, write_tensors
from bitproof.data.npz import read_npz
from bitproof.models.base import Normalize
from bitproof.models.pickle_check import check_pickles
from bitproof.models.user_module import inside_wrappers

DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, BadZipFile, SafetensorError, UnpicklingError),
    *(struct.error, zlib.error, TokenError),
)
"""What the three readers raise on truncated and altered files (found by altering files)."""


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Return a copy of `model` with the weights of a file; `model` stays as it is.

    Of a model in `DataParallel` or `torch.compile`, it is a copy of what is inside.

    The file is `.safetensors`, `.npz`, or a state dict as `.pt`, `.pth`, `.th`, plain or under
    `state_dict`. `module.` before every name in it, left by `DataParallel`, is dropped.

    Raises:
        WeightsError: the file cannot be read, or does not fit; every key that is missing,
            unexpected or of another shape or type is named, and every one that is not finite.
        ModelError: it is no module as written in Python.
        UnsafeFileError: the file holds Python objects instead of arrays, or would take endless time
            or memory.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.safetensors"
        ...     model = nn.Linear(2, 2)
        ...     save_weights(model, path)
        ...     torch.equal(load_weights(nn.Linear(2, 2), path).weight, model.weight)
        True
    """
    model = inside_wrappers(model)
    wanted = model.state_dict()
    found = _read_tensors(path)
    if all(name.startswith("module.") for name in found) and not any(
        name.startswith("module.") for name in wanted
    ):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    problems = [
        *_misnamed(wanted.keys() - found.keys() - _may_be_absent(model), found.keys() - wanted),
        *_misfits(wanted, found),
    ]
    if problems:
        raise WeightsError(f"{path}: the weights do not fit the model: {'; '.join(problems)}")
    loaded = copy.deepcopy(model)
    loaded.load_state_dict({**wanted, **found})
    return loaded


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and buffers as `.safetensors`, bit for bit; names are those inside wrappers.

    Raises:
        ModelError: it is no module as written in Python.
        WeightsError: the name ends in something else.
        StorageError: the disk is full, or the place cannot be written.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: wanted a name that ends in .safetensors, got {shorten(path.suffix)}"
        )
    write_tensors(path, inside_wrappers(model).state_dict(), format="pt")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a file, on the CPU, as they are stored."""
    if path.suffix not in READERS:
        raise WeightsError(
            f"{path}: wanted one of {', '.join(READERS)}, got {shorten(path.suffix)}"
        )
    try:
        return READERS[path.suffix](read_bytes(path), path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise WeightsError(
            f"{path}: cannot be read as {path.suffix}, truncated or damaged? ({reason})"
        ) from error


def _read_npz(content: bytes, path: Path) -> dict[str, Tensor]:
    arrays = read_npz(io.BytesIO(content), path, problem=WeightsError)
    tensors = {}
    for name in arrays.files:
        try:
            array = arrays[name]
        except ValueError as error:
            if "Object arrays" in str(error):
                raise UnsafeFileError(
                    f"{path}: '{name}' holds Python objects, not numbers"
                ) from None
            raise
        # PyTorch wants the byte order of this machine, and memory of its own.
        tensors[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    return tensors


def _read_pickle(content: bytes, path: Path) -> dict[str, Tensor]:
    check_pickles(content, path)
    try:
        with warnings.catch_warnings(action="ignore"):  # on odd pickle protocols
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UnpicklingError:
        objects = get_unsafe_globals_in_checkpoint(io.BytesIO(content))
        if objects:
            raise UnsafeFileError(
                f"{path}: holds Python objects ({', '.join(sorted(objects))}), which bitproof "
                f"never loads; save model.state_dict() instead"
            ) from None
        raise
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: wanted a dict of tensors, got {type(state).__name__}")
    strange = [f"'{k}' ({type(v).__name__})" for k, v in state.items() if not _is_weight(k, v)]
    if strange:
        raise WeightsError(
            f"{path}: wanted named tensors, plain or under 'state_dict', got {', '.join(strange)}"
        )
    return state


READERS: dict[str, Callable[[bytes, Path], dict[str, Tensor]]] = {
    ".safetensors": lambda content, path: parse_tensors(content, path)[0],
    ".npz": _read_npz,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
    ".th": _read_pickle,
}
"""How each kind of file is read, by its suffix."""


def _is_weight(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and not value.is_quantized
    )


def _may_be_absent(model: nn.Module) -> set[str]:
    """Return the names of the buffers that other people's files do not have."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, layer in model.named_modules()
        for name, _ in layer.named_buffers(recurse=False)
        if isinstance(layer, Normalize) or name == "num_batches_tracked"
    }


def _misnamed(missing: Iterable[str], unexpected: Iterable[str]) -> list[str]:
    """Return one phrase for each key without a partner, with the nearest of the other side."""
    missing, unexpected = sorted(missing), sorted(unexpected)
    return [
        *(f"missing '{name}'{_nearest(name, unexpected, 'the file')}" for name in missing),
        *(f"unexpected '{name}'{_nearest(name, missing, 'the model')}" for name in unexpected),
    ]


def _nearest(name: str, names: list[str], place: str) -> str:
    close = get_close_matches(name, names, n=1)
    return f" ({place} has '{close[0]}')" if close else ""


def _misfits(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Return one phrase for each key whose shape, type or values cannot be taken."""
    problems = []
    for name in sorted(wanted.keys() & found.keys()):
        mine, theirs = wanted[name], found[name]
        if mine.shape != theirs.shape:
            problems.append(f"'{name}': wanted {list(mine.shape)}, got {list(theirs.shape)}")
        elif mine.is_floating_point() != theirs.is_floating_point():
            problems.append(f"'{name}': wanted {mine.dtype}, got {theirs.dtype}")
        # After the cast: a float64 may be too large for float32.
        elif n_bad := int((~torch.isfinite(theirs.to(mine.dtype))).sum()):
            problems.append(f"'{name}': {n_bad} of {mine.numel()} values are not finite")
    return problems
