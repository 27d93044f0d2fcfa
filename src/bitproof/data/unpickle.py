"""Read a pickle of plain arrays, text and numbers without running anything of it.

Model:  a pickle is a program; what it may call is decided by `find_class`. Here that returns
        stand-ins of our own, never the numpy functions: `numpy.ndarray.__setstate__` trusts the
        dtype flags that the file gives it, and would take raw bytes for object pointers.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bitproof.core.errors import DataError, UnsafeFileError

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
DTYPES = {code: np.dtype(code) for code in NUMBERS}
"""The element types that an array may have, by the name a pickle gives them."""

MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
)
"""What the unpickler raises where a file is no well-formed pickle."""

Plain = np.ndarray | bytes | str | int | float | list[Any] | tuple[Any, ...] | dict[Any, Any] | None


def load_plain(path: Path) -> dict[str, Plain]:
    """Read a pickled dict of arrays, lists, text and numbers, of Python 2 or 3.

    Args:
        path: the pickle; keys may be bytes or text, and come back as text.

    Raises:
        UnsafeFileError: the file asks for anything but plain data; nothing of it was run.
        DataError: the file is missing, truncated or malformed, or holds no dict.
    """
    try:
        content = path.read_bytes()
        _check_claims(content)
        found = _PlainUnpickler(io.BytesIO(content), path).load()
        if not isinstance(found, dict):
            raise TypeError(f"wanted a dict, got {type(found).__name__}")
        return {_text(key): _unwrap(value) for key, value in found.items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except MALFORMED as error:
        raise DataError(f"{path}: truncated, or no pickle of plain data ({error})") from None


def _check_claims(content: bytes) -> None:
    """Refuse lengths and memo places that the file only claims: they would fill the memory."""
    for opcode, argument, position in pickletools.genops(content):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > (position or 0):
            raise ValueError(f"{opcode.name} to place {argument} at byte {position}")


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path
        array, scalar, buffer = _MakeArray(path), _MakeScalar(path), _MakeFromBuffer(path)
        self._allowed: dict[tuple[str, str], object] = {
            ("numpy", "dtype"): _MakeDtype(path),
            ("numpy", "ndarray"): _NdArray(path),
            ("_codecs", "encode"): _Encode(path),
        }
        for core in ("numpy.core", "numpy._core"):
            self._allowed[f"{core}.multiarray", "_reconstruct"] = array
            self._allowed[f"{core}.multiarray", "scalar"] = scalar
            self._allowed[f"{core}.numeric", "_frombuffer"] = buffer

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for `module.name`, or refuse it by name."""
        if (module, name) not in self._allowed:
            raise _refusal(self._path, f"'{module}.{name}'")
        return self._allowed[module, name]


class _Inert:
    """A stand-in that a pickle cannot change; what it may call is up to subclasses."""

    __slots__ = ("_path",)
    _path: Path

    def __init__(self, path: Path) -> None:
        object.__setattr__(self, "_path", path)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise _refusal(self._path, f"a change of '{name}'")

    def __setstate__(self, state: object) -> None:
        raise _refusal(self._path, f"a change of {type(self).__name__}")


class _Dtype(_Inert):
    """An element type: the name first, then the byte order as state."""

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        super().__init__(path)
        object.__setattr__(self, "dtype", dtype)

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) >= 8 else None
        if order not in ("<", ">", "=", "|") or state[2:5] != (None, None, None):  # type: ignore[index]
            raise _refusal(self._path, "a dtype that is no plain number")
        object.__setattr__(self, "dtype", self.dtype.newbyteorder(order))


class _Array(_Inert):
    """An array that waits for its state."""

    __slots__ = ("array",)
    array: np.ndarray

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("array state: wanted five parts")
        _, shape, dtype, is_fortran, data = state
        order = "F" if is_fortran else "C"
        object.__setattr__(self, "array", _fill(self._path, (data, dtype, shape, order)))


class _NdArray(_Inert):
    """The type itself: an argument of `_reconstruct`, never called."""

    __slots__ = ()

    def __call__(self, *_: object) -> NoReturn:
        raise _refusal(self._path, "a call of 'numpy.ndarray'")


class _MakeDtype(_Inert):
    __slots__ = ()

    def __call__(self, code: object, *_: object) -> _Dtype:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code not in DTYPES:
            raise _refusal(self._path, f"an array of dtype {code!r}")
        return _Dtype(self._path, DTYPES[code])


class _MakeArray(_Inert):
    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array(self._path)


class _MakeFromBuffer(_Inert):
    """Arrays under pickle protocol 5."""

    __slots__ = ()

    def __call__(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        made = _Array(self._path)
        made.__setstate__((1, shape, dtype, order == "F", data))
        return made


class _MakeScalar(_Inert):
    __slots__ = ()

    def __call__(self, dtype: object, data: object) -> int | float | bool:
        number: int | float | bool = _fill(self._path, (data, dtype, (), "C")).item()
        return number


class _Encode(_Inert):
    """Bytes as protocol 2 of Python 3 writes them: text and `latin1`."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _refusal(self._path, f"'_codecs.encode' with {encoding!r}")
        return text.encode("latin1")


def _fill(path: Path, parts: tuple[object, object, object, str]) -> np.ndarray:
    """Return the array of `(data, dtype, shape, order)`, all of which a file claims."""
    data, dtype, shape, order = parts
    if isinstance(data, str):  # bytes of Python 2
        data = data.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _refusal(path, "an array of objects")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
        raise ValueError(f"array shape: wanted integers, got {shape!r}")
    flat = np.frombuffer(bytes(data), dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _text(key: object) -> str:
    if not isinstance(key, str | bytes):
        raise TypeError(f"wanted names as keys, got {key!r}")
    return key.decode("latin1") if isinstance(key, bytes) else key


def _unwrap(value: Any) -> Plain:
    return value.array if isinstance(value, _Array) else value


def _refusal(path: Path, what: str) -> UnsafeFileError:
    return UnsafeFileError(
        f"{path}: refuses to load {what}; a data file may hold only arrays, text, numbers, "
        "lists and dicts"
    )
