"""Files that lie: each is refused in one line, runs nothing, and takes neither memory nor time."""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

pytestmark = pytest.mark.slow

LIMIT = 4 << 30
"""Bytes of address space that the reading process may have."""
MB = 400
"""Megabytes that a file may add to its memory."""
MAGIC = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
"""What begins a file of PyTorch that is no zip."""
STOP = b"."


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def table(key: bytes, value: bytes = b"N") -> bytes:
    return b"\x80\x02}" + key + value + b"s."


def storage(size: int) -> bytes:
    """Return a storage of `size` floats, as a tensor names it."""
    number = b"\x8a\x08" + struct.pack("<q", size)
    words = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number
    return b"(" + words + b"tQ"


def tensor(claimed: int, shape: int, stride: int) -> bytes:
    """Return a float tensor of `shape` numbers, out of a storage that claims `claimed`."""
    sizes = [b"\x8a\x08" + struct.pack("<q", size) + b"\x85" for size in (shape, stride)]
    rest = b"K\x00" + sizes[0] + sizes[1] + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(claimed) + rest + b"tR"


def doubled(times: int, then: bytes) -> bytes:
    """Return a pickle that makes a tuple that stands for 2**times items, as number `times`."""
    gets = [b"h" + bytes([n]) for n in range(times)]
    steps = [get + get + b"\x86q" + bytes([n + 1]) for n, get in enumerate(gets)]
    return b"\x80\x02Nq\x00" + b"".join(steps) + then


ENCODE = b"c_codecs\nencode\n"
PICKLES = {
    "global": b"\x80\x02cos\nsystem\n" + text("touch MARK") + b"\x85R.",
    "eval": b"\x80\x02c__builtin__\neval\n" + text("open('MARK', 'w')") + b"\x85R.",
    "inst": b"(" + text("touch MARK") + b"ios\nsystem\n.",
    "obj": b"(cos\nsystem\n" + text("touch MARK") + b"o.",
    "stack-global": b"\x80\x04" + text("os") + text("system") + b"\x93" + text("touch MARK")
    + b"\x85R.",
    "new-object": b"\x80\x02csubprocess\nPopen\n" + text("touch MARK") + b"\x85\x81.",
    "inside": table(text("weight"), b"cos\nsystem\n" + text("touch MARK") + b"\x85R"),
    "extension": b"\x80\x02\x82\x01.",
    "build": b"\x80\x02ctorch\ndevice\n" + text("cpu") + b"\x85R}" + text("a") + b"Nsb.",
    "zeros": table(text("weight"), b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R"),
    "zeros-new": table(text("weight"), b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85\x81"),
    "texts": b"\x80\x02" + ENCODE + text("a" * 99) + text("latin1") + b"\x86Rq\x00"
    + 24 * (ENCODE + b"h\x00" + text("hex_codec") + b"\x86Rq\x00") + b"}" + text("a") + b"h\x00s.",
    "text-again": b"\x80\x02" + text("a" * 10**5) + b"q\x00" + text("latin1") + b"q\x01]"
    + 10**5 * (ENCODE + b"h\x00h\x01\x86Ra") + STOP,
    "bytes-of-zeros": table(text("weight"), b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R"),
    "range": table(text("weight"), b"c__builtin__\nrange\nJ\xff\xff\xff\x7f\x85R"),
    "stand-in": b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__class__") + b"cos\nsystem\nsb.",
    "stand-in-list": b"\x80\x02cbuiltins\nlist\n)RNa.",
    "numbers": table(text("weight"), b"ctorch\nFloatTensor\n\x8a\x08"
                     + struct.pack("<q", 10**11) + b"\x85R"),
    "claimed-storage": table(text("weight"), tensor(10**12, 6, 1)),
    "claimed-shape": table(text("weight"), tensor(6, 10**12, 0)),
    "negative-storage": table(text("weight"), tensor(-1, 6, 1)),
    "key-of-2**60": doubled(60, b"}h<Ns."),
    "set-of-2**60": doubled(60, b"c__builtin__\nset\n]h<a\x85R."),
    "counter-of-2**60": doubled(60, b"ccollections\nCounter\n]h<a\x85R."),
    "deep-key": table(b"N" + b"\x85" * 3_000_000),
    "deep-lists": b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + STOP,
    "deep-marks": b"\x80\x02" + b"(" * 500_000 + STOP,
    "loop": b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.",
    "loop-list": b"\x80\x02]q\x00h\x00a.",
    "long4": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "long-digits": b"I" + b"9" * 3_000_000 + b"\n.",
    "unicode8": b"\x80\x04\x8d" + struct.pack("<Q", 10**12) + b"a.",
    "bytes8": b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"a.",
    "bytearray8": b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"a.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 10**12) + b"N.",
    "memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "nothing": b"",
    "stop": STOP,
}  # fmt: skip


def zipped(entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def bomb(name: str, start: bytes = b"", mb: int = 700) -> bytes:
    """Return a zip of one entry that is `mb` times a thousand times a thousand zeros."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as entry,
    ):
        entry.write(start)
        for _ in range(mb):
            entry.write(bytes(1_000_000))
    return file.getvalue()


def claiming(content: bytes, size: int) -> bytes:
    """Return a zip whose directory claims that its first entry holds `size` bytes."""
    at = content.index(b"PK\x01\x02") + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def array_header(descr: str, shape: str, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


ARRAYS = {
    "claims": array_header("'<f4'", "(1000000000000,)") + bytes(40),
    "claims-more": array_header("'<f4'", f"({10**30},)") + bytes(40),
    "claims-4gb": array_header("'<f4'", "(1000, 1000, 1000)") + bytes(40),
    "wide": array_header("'<U500000000'", "(2,)") + bytes(40),
    "empty-words": array_header("'|S0'", "(1000000000000,)") + bytes(40),
    "negative": array_header("'<f4'", "(-1, 3)") + bytes(40),
    "objects": array_header("'|O'", "(1,)") + pickle.dumps(1),
    "nested": array_header("'<f4'", "(" * 4000 + ")" * 4000),
    "unclosed": array_header("'<f4'", "(((1"),
    "fields": array_header(str([(f"f{n}", "<f4") for n in range(400)]), "(1000000000,)"),
    "long-header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
    "version-9": b"\x93NUMPY\x09\x00\x10\x00{",
    "code": array_header("__import__('os').system('touch MARK')", "(1,)"),
    "no-array": b"hello",
}


def sealed(header: object, size: int | None = None, data: bytes = b"") -> bytes:
    """Return a safetensors file with that header."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if size is None else size) + content + data


def entry(shape: list[int], end: int) -> dict[str, object]:
    return {"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}


SEALED = {
    "header-of-10**12": sealed({}, 10**12),
    "header-of-2**64": sealed({}, 2**64 - 1),
    "header-of-4gb": sealed({}, 2**32),
    "elements": sealed(entry([10**12], 4 * 10**12), data=bytes(24)),
    "elements-overflow": sealed(entry([2**32, 2**32, 2**32], 24), data=bytes(24)),
    "elements-without-bytes": sealed(entry([10**12], 24), data=bytes(24)),
    "negative": sealed(entry([-1], 24), data=bytes(24)),
    "deep": sealed(b"[" * 1_000_000),
    "deep-table": sealed(b'{"a":' * 100_000),
    "no-table": sealed([1, 2]),
    "hole": sealed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, data=bytes(16)),
    "digits": sealed(b'{"a":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b"9" * 9999 + b"]}}"),
}


def archive_of(pickled: bytes) -> bytes:
    """Return a zip of PyTorch with that pickle."""
    rest = {"archive/version": b"3\n", "archive/byteorder": b"little", "archive/data/0": bytes(24)}
    return zipped({"archive/data.pkl": pickled, **rest})


def old_file(pickled: bytes) -> bytes:
    """Return a file of PyTorch that is no zip, with that pickle."""
    start = b"".join(pickle.dumps(part, protocol=2) for part in MAGIC)
    return start + pickled + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 6) + bytes(24)


def hostile_files() -> Iterator[tuple[str, bytes]]:
    for name, content in PICKLES.items():
        yield f"weights-zip-{name}.pt", archive_of(content)
        yield f"weights-old-{name}.pth", old_file(content)
        yield f"weights-bare-{name}.th", content
    sound = table(text("weight"), tensor(6, 6, 1))
    names = pickle.dumps(["0"], protocol=2)
    huge = old_file(sound)[: -24 - 8] + struct.pack("<q", 10**12) + bytes(24)
    yield "weights-old-storage-claims.pth", huge
    key_bomb = old_file(sound)
    at = key_bomb.rindex(names)
    yield "weights-old-names.pth", key_bomb[:at] + doubled(60, b"]h<a.")
    yield "weights-bomb.pt", bomb("archive/data.pkl", sound)
    yield "weights-bomb-lies.pt", claiming(bomb("archive/data.pkl", sound), 100)
    twice = archive_of(sound).replace(b"archive/byteorder", b"archive/data.pkl\0")
    yield "weights-twice.pt", twice
    yield "weights-deep.index.json", b'{"weight_map": ' + b"[" * 1_000_000
    yield "weights-digits.index.json", b'{"weight_map": {"a": ' + b"9" * 1_000_000 + b"}}"
    yield "weights-itself.index.json", b'{"weight_map": {"a": "weights-itself.index.json"}}'
    yield "weights-up.index.json", b'{"weight_map": {"a": "../../a.pt"}}'
    for kind in ("weights", "arrays"):
        for name, content in ARRAYS.items():
            yield f"{kind}-{name}.npz", zipped({"x.npy": content})
            yield f"{kind}-bare-{name}.npz", content
        start = array_header("'<f4'", "(175000000,)")
        yield f"{kind}-bomb.npz", bomb("x.npy", start)
        yield f"{kind}-bomb-lies.npz", claiming(bomb("x.npy", start), 200)
        lies = claiming(zipped({"x.npy": ARRAYS["claims-4gb"]}), 4_000_000_400)
        yield f"{kind}-claims-in-both.npz", lies
        yield f"{kind}-strange.npz", zipped({"x.npy": b"\x93NUMPY"}, zipfile.ZIP_BZIP2)
    for name, content in SEALED.items():
        yield f"weights-{name}.safetensors", content
    for number, size in enumerate((10**8, 2**31, 2**32 - 1)):
        header = bytes([0, 0, 8, 1]) + struct.pack(">I", size)
        yield f"idx-claims-{number}", header
        yield f"idx-claims-{number}.gz", gzip.compress(header + bytes(100))
    yield (
        "idx-bomb.gz",
        gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 700_000_000) + bytes(700_000_000), 1),
    )
    yield (
        "idx-more.gz",
        gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 100) + bytes(700_000_000), 1),
    )
    yield "recipe-deep.toml", b"a = " + b"[" * 200_000
    yield "recipe-deep-table.toml", b"a = " + b"{a=" * 200_000
    yield "recipe-digits.toml", b"recipe = " + b"9" * 1_000_000
    yield "recipe-binary.toml", bytes(range(256)) * 10
    yield "faults-binary.csv", bytes(range(256)) * 10
    yield "faults-digits.csv", b"trial,site,layer,word,bit\n" + b"9" * 100_000 + b",weight,a,0,0\n"


def networks() -> Iterator[tuple[str, bytes]]:
    words = safetensors.torch.save({"a": torch.zeros(1)})
    layouts = {
        "deep": b"[" * 1_000_000,
        "deep-table": b'{"a":' * 200_000,
        "digits": b'{"schema": ' + b"9" * 1_000_000 + b"}",
        "list": b"[]",
        "input": b'{"schema": 1, "nodes": [{"name": "i", "op": "input"}]}',
        "binary": bytes(range(256)),
        "nan": b'{"schema": NaN}',
    }
    for name, content in layouts.items():
        yield f"network-{name}.json", content
        yield f"network-{name}.safetensors", words
    for name, content in SEALED.items():
        yield f"network-{name}.safetensors", content
        yield f"network-{name}.json", b'{"schema": 1}'


def test_no_file_gets_further_than_one_line(tmp_path: Path) -> None:
    folder, place = tmp_path / "files", tmp_path / "place"
    folder.mkdir()
    place.mkdir()
    files = dict([*hostile_files(), *networks()])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("read_files.py"), folder, str(LIMIT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (told[-1:], done.stderr[-2000:])
    found = [line for line in told if "file" in line]
    assert len(found) == len(files)
    wrong = [
        line
        for line in found
        if line["problem"].startswith(("was read", "BUG"))
        or "\n" in line["problem"]
        or line["mb"] > MB
        or line["seconds"] > 20
    ]
    assert not wrong, json.dumps(wrong, indent=1)
    assert not list(place.iterdir())  # no code ran
    assert done.stderr == ""


def test_what_is_sound_is_read_under_the_same_limits(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "weights-a.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights-b.pth")
    torch.save(state, tmp_path / "weights-c.th", _use_new_zipfile_serialization=False)
    np.savez_compressed(tmp_path / "weights-d.npz", weight=np.zeros((2, 3)), bias=np.zeros(2))
    safetensors.torch.save_file(state, tmp_path / "weights-e.safetensors")
    (tmp_path / "idx-f.gz").write_bytes(
        gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 10**7) + bytes(10**7))
    )
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("read_files.py"), tmp_path, str(LIMIT)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["problem"] for line in told if "file" in line] == ["was read"] * 6
