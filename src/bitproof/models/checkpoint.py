"""Weights in files: read without running anything, checked key by key, written whole or not at all.

Reads `.safetensors`, `.npz`, PyTorch's `.pt`, `.pth`, `.th`, `.pth.tar`, Lightning's `.ckpt`, and
Hugging Face's `.bin` and `.index.json`; writes `.safetensors`. A file may leave out what training
did not make (`Normalize` buffers, batch counters): those stay as built.
"""

import copy
import io
import json
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from bitproof.core.errors import UnsafeFileError, WeightsError, first_of, shorten
from bitproof.core.files import read_bytes
from bitproof.core.progress import SILENT, Progress
from bitproof.core.tensor_files import parse_tensors, write_tensors
from bitproof.data.npz import read_npz
from bitproof.models.base import Normalize
from bitproof.models.pickle_check import check_pickles
from bitproof.models.stand_ins import STAND_INS
from bitproof.models.state_dict import USUAL, Named, dicts_of, fitting, is_weight, likeliest
from bitproof.models.user_module import inside_wrappers

DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, BadZipFile, SafetensorError, UnpicklingError),
    *(struct.error, zlib.error, TokenError),
)
"""What the three readers raise on truncated and altered files (found by altering files)."""
INDEX = ".index.json"
"""What the list of several files that hold one model ends with."""
MOST_SHARDS = 1000
"""Files that such a list may name."""


def load_weights(model: nn.Module, path: Path | str, *, progress: Progress = SILENT) -> nn.Module:
    """Return a copy of `model` with the weights of a file; `model` stays as it is.

    Of a model in `DataParallel` or `torch.compile`, it is a copy of what is inside. See
    `take_weights` for what files may hold; `progress` is told what was taken of this one.

    Raises:
        WeightsError: the file cannot be read, or does not fit; every key that is missing,
            unexpected or of another shape or type is named, and every one that is not finite. Or
            several of its dicts fit.
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
    loaded, said = take_weights(model, path)
    if said:
        progress.say(f"weights: {said}")
    return loaded


def take_weights(model: nn.Module, path: Path | str) -> tuple[nn.Module, str]:
    """Return a copy of `model` with the weights of a file, and what was done to find them.

    The file is `.safetensors`, `.npz`, or a dict as `.pt`, `.pth`, `.th`, `.tar`, `.ckpt` or
    `.bin`, of named tensors or of dicts of them; or the `.index.json` of several files. What all
    names begin with, left by `DataParallel`, `torch.compile` or a surrounding module, is dropped.
    Of several dicts that fit, `FILE:NAME` takes one. float16, bfloat16 and float64 become the types
    of the model.

    Raises:
        WeightsError, ModelError, UnsafeFileError: see `load_weights`.
    """
    path, choice = split_choice(Path(path))
    model = inside_wrappers(model)
    wanted = model.state_dict()
    found = _choose(_read(path), wanted, frozenset(_may_be_absent(model)), path, choice)
    loaded = copy.deepcopy(model)
    loaded.load_state_dict({**wanted, **found.tensors})
    said = ", ".join([*found.parts, *_conversions(wanted, found.tensors)])
    return loaded, said


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the named tensors of a file, as stored: of several dicts, the one nearest to the top.

    Raises:
        WeightsError: the file cannot be read, or holds no tensors.
        UnsafeFileError: it holds Python objects instead.
    """
    content = _read(path)
    found = next(iter(dicts_of(content).values()), None)
    if found is None:
        raise WeightsError(f"{path}: {_not_weights(content)}")
    return found


def split_choice(path: Path) -> tuple[Path, str]:
    """Return the file, and the dict of it that is asked for, of `FILE` or `FILE:NAME`.

    Example:
        >>> split_choice(Path("runs/last.ckpt:ema_state_dict"))[1]
        'ema_state_dict'
    """
    name, colon, choice = path.name.rpartition(":")
    if not colon or path.is_file():
        return path, ""
    return path.with_name(name), choice


def weight_files(path: Path) -> list[Path]:
    """Return the files that weights are read from: one, or a list of files and those on it.

    Raises:
        WeightsError: the list cannot be read, or names files elsewhere.
    """
    file = split_choice(path)[0]
    return [file, *_shards(file)] if file.name.endswith(INDEX) else [file]


def _choose(
    content: Any,
    wanted: Mapping[str, Tensor],
    optional: frozenset[str],
    path: Path,
    choice: str,
) -> Named:
    """Return the weights of a file that are the model's, or raise an error that says why none."""
    found = dicts_of(content)
    if not found:
        raise WeightsError(f"{path}: {_not_weights(content)}")
    fits = fitting(found, wanted, optional)
    if choice:
        chosen = [one for one in fits if choice in {one.choice, one.place}]
        if not chosen and choice not in found:
            known = first_of([shorten(each) for each in _names(fits) or list(found) if each])
            raise WeightsError(
                f"{path}: wanted weights under {shorten(choice)}, there are none; the file has "
                f"{known or 'its weights at the top'}"
            )
        found, fits = {choice: found[choice]} if choice in found else found, chosen
    clear = len(fits) == 1 and (choice or _is_most(fits[0]))
    if fits and not clear:
        ways = " or ".join(f"{path}:{name}" for name in _names(fits))
        raise WeightsError(
            f"{path}: holds other weights beside those that fit the model; say which you mean: "
            f"{ways}"
        )
    best = fits[0] if fits else likeliest(found, wanted)
    problems = [
        *_misnamed(wanted.keys() - best.tensors.keys() - optional, best.tensors.keys() - wanted),
        *_misfits(wanted, best.tensors),
    ]
    if problems:
        under = f" ({', '.join(best.parts)})" if best.parts else ""
        raise WeightsError(
            f"{path}: the weights{under} do not fit the model: {'; '.join(problems)}"
        )
    return best


def _names(fits: Iterable[Named]) -> list[str]:
    return [one.choice for one in fits]


def _is_most(one: Named) -> bool:
    """Return whether less was left out than taken, as metrics and losses beside a model are."""
    return one.n_others < sum(value.numel() for value in one.tensors.values())


def _not_weights(content: Any) -> str:
    if not isinstance(content, dict):
        return f"wanted a dict of tensors, got {type(content).__name__}"
    inside = next((content[name] for name in USUAL if isinstance(content.get(name), dict)), content)
    strange = [f"'{k}' ({type(v).__name__})" for k, v in inside.items() if not is_weight(k, v)]
    came = first_of(strange[:10]) or "none"
    return f"wanted named tensors, plain or in a dict such as 'state_dict', got {came}"


def _conversions(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return a phrase for each type of numbers that becomes another."""
    kinds = Counter(
        (value.dtype, wanted[name].dtype)
        for name, value in found.items()
        if value.is_floating_point() and value.dtype != wanted[name].dtype
    )
    return [
        f"converted {count} tensors from {str(old)[6:]} to {str(new)[6:]}"
        for (old, new), count in kinds.items()
    ]


def save_weights(model: nn.Module, path: Path | str) -> None:
    """Write parameters and buffers as `.safetensors`, bit for bit; names are those inside wrappers.

    Raises:
        ModelError: it is no module as written in Python.
        WeightsError: the name ends in something else.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: wanted a name that ends in .safetensors, got {shorten(path.suffix)}"
        )
    write_tensors(path, inside_wrappers(model).state_dict(), format="pt")


def _read(path: Path) -> Any:
    """Return what a file holds, or several files together: tensors on the CPU, as stored."""
    if not path.name.endswith(INDEX):
        return _read_one(path)
    tensors: dict[str, Any] = {}
    for shard in _shards(path):
        part = _read_one(shard)
        if not isinstance(part, dict):
            raise WeightsError(f"{shard}: {_not_weights(part)}")
        tensors |= part
    return tensors


def _shards(path: Path) -> list[Path]:
    """Return the files that a list names."""
    try:
        names = json.loads(read_bytes(path))["weight_map"].values()
        shards = sorted({str(name) for name in names})
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WeightsError(
            f"{path}: wanted JSON with a 'weight_map' from names of tensors to files"
        ) from None
    for name in shards:
        if Path(name).name != name or name.endswith(INDEX):
            raise WeightsError(f"{path}: wanted names of files beside it, got {shorten(name)}")
        if not path.with_name(name).is_file():
            raise WeightsError(f"{path.with_name(name)}: no such file, {path.name} names it")
    if len(shards) > MOST_SHARDS:
        raise WeightsError(f"{path}: wanted at most {MOST_SHARDS} files, got {len(shards)}")
    return [path.with_name(name) for name in shards]


def _read_one(path: Path) -> Any:
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


def _read_pickle(content: bytes, path: Path) -> Any:
    check_pickles(content, path)
    try:
        with warnings.catch_warnings(action="ignore"), safe_globals(STAND_INS):  # odd protocols
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UnpicklingError:
        objects = set(get_unsafe_globals_in_checkpoint(io.BytesIO(content)))
        objects -= {name for _, name in STAND_INS}
        if not objects:
            raise
        whole = "a whole pickled model, " if any("torch.nn." in name for name in objects) else ""
        raise UnsafeFileError(
            f"{path}: holds {whole}Python objects ({first_of(sorted(objects))}), which bitproof "
            "never loads; save model.state_dict() instead: torch.save(model.state_dict(), 'w.pt')"
        ) from None


READERS: dict[str, Callable[[bytes, Path], Any]] = {
    ".safetensors": lambda content, path: parse_tensors(content, path)[0],
    ".npz": _read_npz,
    **dict.fromkeys((".pt", ".pth", ".th", ".ckpt", ".bin", ".tar"), _read_pickle),
}
"""How each kind of file is read, by its suffix."""


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


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
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
