"""Hostile pickles leave a mark on the disk if any of their code runs; none may."""

import os
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitproof.core.errors import DataError, UnsafeFileError
from bitproof.data.unpickle import load_plain

CONTENT: dict[str, Any] = {
    "data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
    "labels": [1, 2, 70_000, -5, 2**70],
    "count": np.int64(7),
    "names": ["a.png", "ü.png"],
    "nested": {"tuple": (1.5, None, True, b"\x00\xff")},
}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    return path


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.made


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_under_every_protocol(tmp_path: Path, protocol: int) -> None:
    found = load_plain(write(tmp_path, pickle.dumps(CONTENT, protocol=protocol)))
    assert found.keys() == CONTENT.keys()
    for name in ("data", "columns"):
        array = found[name]
        assert isinstance(array, np.ndarray)
        assert array.dtype == CONTENT[name].dtype
        assert np.array_equal(array, CONTENT[name])
    assert found["count"] == 7
    for name in ("labels", "names", "nested"):
        assert found[name] == CONTENT[name]


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_old_and_new_numpy_are_read(tmp_path: Path, core: bytes) -> None:
    content = pickle.dumps({"data": np.arange(3, dtype=np.int16)}, protocol=2)
    for module in (b"numpy._core", b"numpy.core"):
        content = content.replace(b"c" + module + b".multiarray", b"c" + core + b".multiarray")
    assert core + b".multiarray" in content
    assert np.array_equal(load_plain(write(tmp_path, content))["data"], np.arange(3))  # type: ignore[arg-type]


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # As Python 2 wrote CIFAR: byte strings (opcode U) as keys, as dtype code and as pixels.
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR("
        b"K\x01K\x02K\x03\x86cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR("
        b"K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(b"\x00\x7f\x80\xff\x01\x02")
        + b"tb"
    )
    content = b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](K\x01K\x02eu."
    found = load_plain(write(tmp_path, content))
    assert np.array_equal(found["data"], np.array([[0, 127, 128], [255, 1, 2]], np.uint8))  # type: ignore[arg-type]
    assert found["labels"] == [1, 2]


def test_bytes_as_keys_come_back_as_text(tmp_path: Path) -> None:
    assert load_plain(write(tmp_path, pickle.dumps({b"labels": [1]}))) == {"labels": [1]}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("nest", ["alone", "in a list", "as a key", "in an array"])
def test_a_call_hidden_anywhere_is_refused_by_name(
    tmp_path: Path, mark: Path, protocol: int, nest: str
) -> None:
    call = Call(os.system, f"touch {mark}")
    content = {
        "alone": call,
        "in a list": {"data": [1, {"x": (call,)}]},
        "as a key": {call: 1},
        "in an array": {"data": np.array([call], dtype=object)},
    }[nest]
    path = write(tmp_path, pickle.dumps(content, protocol=protocol))
    with pytest.raises(UnsafeFileError, match="data_batch_1: refuses to load") as caught:
        load_plain(path)
    if nest != "in an array":  # there the dtype is refused first
        assert f"'{os.system.__module__}.system'" in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, open, getattr, __import__, np.load, np.fromfile, os.remove]
)
def test_no_function_of_python_or_numpy_is_admitted(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    path = write(tmp_path, pickle.dumps({"data": Call(function, str(victim))}, protocol=2))
    with pytest.raises(UnsafeFileError, match=rf"'.*\.{function.__name__}'"):
        load_plain(path)
    assert victim.read_text() == "here"


def stack_global(module: str, name: str) -> bytes:
    return (
        b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "_core.multiarray._reconstruct"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing._private.utils", "runstring"),
        ("_codecs", "encode.__self__"),
        ("_codecs", "lookup"),
        ("bitproof.data.unpickle", "load_plain"),
        ("", ""),
    ],
)
def test_dotted_names_reach_nothing(tmp_path: Path, module: str, name: str) -> None:
    content = b"\x80\x04}(\x8c\x01x" + stack_global(module, name) + b"u."
    with pytest.raises(UnsafeFileError, match=f"refuses to load '{module}.{name}'"):
        load_plain(write(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch MARK'\ntR.",
        b"(S'touch MARK'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch MARK'\no.",
        b"\x80\x02cposix\nsystem\nX\x0a\x00\x00\x00touch MARK\x85R.",
        b"\x80\x02cbuiltins\nlist\n)\x81.",
        b"ccopy_reg\n_reconstructor\n(cos\nsystem\nNNtR.",
    ],
)
def test_every_opcode_that_calls_is_refused(tmp_path: Path, mark: Path, content: bytes) -> None:
    path = write(tmp_path, content.replace(b"MARK", os.fsencode(mark)))
    with pytest.raises(DataError):
        load_plain(path)
    assert not mark.exists()


DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1K\x00K\x01tR"


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n)R.",  # a call of the type itself
        b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",  # new attributes for a stand-in
        b"cnumpy\ndtype\nN}X\x08\x00\x00\x00__call__K\x01s\x86b.",  # the same by slot state
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR.",  # object pointers
        b"cnumpy\ndtype\n(X\x05\x00\x00\x00O,i4,K\x00K\x01tR.",
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00V8K\x00K\x01tR.",
        DTYPE + b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00f\x85}K\x08K\x01K\x00tb.",  # fields
        DTYPE + b"N}X\x05\x00\x00\x00dtypeK\x01s\x86b.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        b"c_codecs\nencode\n(K\x01X\x06\x00\x00\x00latin1tR.",
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85NK\x00]tb.",  # a list as content
    ],
)
def test_stand_ins_admit_nothing_but_plain_arrays(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnsafeFileError, match="refuses to load"):
        load_plain(write(tmp_path, b"\x80\x02" + content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"<html>404</html>", "truncated, or no pickle"),
        (b"PK\x03\x04" + bytes(100), "truncated, or no pickle"),
        (b"\x80\x02]q\x00.", "wanted a dict, got list"),
        (b"\x80\x02}K\x01K\x02s.", "wanted names as keys, got 1"),
        (b"\x80\x02P1\n.", "truncated, or no pickle"),
        (b"\x80\x02\x82\x01.", "truncated, or no pickle"),  # extension registry
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "LONG_BINPUT to place 2147483647"),  # 32 GB of memo
        (b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b".", "truncated, or no pickle"),
        (b"\x80\x02}(X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\n)Ru.", "array"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x05\x85"
            + DTYPE
            + b"K\x00U\x02abtb.",
            "cannot reshape",
        ),
    ],
)
def test_garbage_is_a_data_error_that_names_the_file(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=f"data_batch_1: .*{message}"):
        load_plain(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file"):
        load_plain(tmp_path / "none")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0.0, 0.999), protocol=st.sampled_from([0, 2, 4]))
def test_a_truncated_file_is_a_data_error(tmp_path: Path, share: float, protocol: int) -> None:
    content = pickle.dumps(CONTENT, protocol=protocol)
    with pytest.raises(DataError, match="truncated"):
        load_plain(write(tmp_path, content[: int(share * len(content))]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # damaged escapes in text
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), protocol=st.sampled_from([0, 2, 4]))
def test_a_damaged_file_raises_a_data_error_or_nothing(
    tmp_path: Path, place: int, value: int, protocol: int
) -> None:
    content = bytearray(pickle.dumps(CONTENT, protocol=protocol))
    content[place % len(content)] = value
    path = write(tmp_path, bytes(content))
    with suppress(DataError):  # anything else, or a mark on the machine, fails
        assert all(isinstance(name, str) for name in load_plain(path))
