"""Weights and multipliers from a server that stands in for the authors' repositories."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from bitproof.approx import EvoApprox
from bitproof.approx.c_model import products_of_c
from bitproof.approx.fetch_library import library_rows, wrong_tables
from bitproof.core.errors import ChecksumError, DataError, RecipeError, UnknownKindError
from bitproof.models import pretrained
from bitproof.models.checkpoint import read_tensors
from bitproof.recipe.building import find_weights
from bitproof.recipe.fetching import everything, fetch_anything, verify_anything


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder and the address under which its files are served."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def publish(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, torch.Tensor]
) -> None:
    """Write weights as the authors did, and take their checksums for the published ones."""
    (folder / "pretrained_models").mkdir(exist_ok=True)
    file = folder / "pretrained_models" / "resnet20-12fca82f.th"
    state = {f"module.{name}": value for name, value in tensors.items()}
    torch.save({"best_prec1": 91.7, "state_dict": state}, file)
    (folder / "LICENSE").write_text("a notice")
    own = replace(
        pretrained.PUBLISHED_WEIGHTS["resnet20-cifar10"],
        sha256=hashlib.sha256(file.read_bytes()).hexdigest()[:16],
        digest=pretrained.digest_of(tensors),
    )
    monkeypatch.setitem(pretrained.PUBLISHED_WEIGHTS, "resnet20-cifar10", own)
    notice = hashlib.sha256(b"a notice").hexdigest()
    monkeypatch.setattr(pretrained, "NOTICE_SHA256", notice)


def test_weights_come_as_arrays_with_their_notice(
    site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    tensors = {"conv1.weight": torch.rand(2, 3), "bn1.bias": torch.rand(4)}
    publish(folder, monkeypatch, tensors)
    data = tmp_path / "data"
    path, notice = fetch_anything("resnet20-cifar10", data, mirror=url)
    assert notice.read_text() == "a notice"
    with np.load(path) as stored:
        assert all(np.array_equal(stored[name], value) for name, value in tensors.items())
    assert sorted(one.name for one in path.parent.iterdir()) == ["LICENSE.txt", path.name]
    assert find_weights("pretrained", data, kind="resnet20") == path
    assert fetch_anything("resnet20-cifar10", data, mirror="http://127.0.0.1:9") == [path]
    assert [check.ok for check in verify_anything("resnet20-cifar10", data)] == [True]
    row = next(row for row in everything(data) if row.kind == "resnet20-cifar10")
    assert (row.present, row.path) == (True, path)


def test_other_weights_are_refused_and_leave_nothing(
    site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    publish(folder, monkeypatch, {"conv1.weight": torch.rand(2, 3)})
    own = pretrained.PUBLISHED_WEIGHTS["resnet20-cifar10"]
    other = replace(own, digest="0" * 64)
    monkeypatch.setitem(pretrained.PUBLISHED_WEIGHTS, "resnet20-cifar10", other)
    with pytest.raises(ChecksumError, match="holds other weights than the published ones"):
        fetch_anything("resnet20-cifar10", tmp_path / "data", mirror=url)
    assert list((tmp_path / "data" / "weights").iterdir()) == []
    other = replace(own, sha256="f" * 16)
    monkeypatch.setitem(pretrained.PUBLISHED_WEIGHTS, "resnet20-cifar10", other)
    with pytest.raises(ChecksumError, match=r"wanted sha256 f{16}, got [0-9a-f]{64}"):
        fetch_anything("resnet20-cifar10", tmp_path / "data", mirror=url)


@pytest.mark.parametrize("name", list(pretrained.PUBLISHED_WEIGHTS))
def test_digests_are_those_of_the_weights_that_we_have(name: str, data_dir: Path) -> None:
    path = pretrained.weights_path(name, data_dir)
    if not path.is_file():
        pytest.skip(f"no {path.name} in the data folder")
    assert pretrained.digest_of(read_tensors(path)) == pretrained.PUBLISHED_WEIGHTS[name].digest


def test_what_is_missing_names_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`bitproof data fetch resnet20-cifar10`"):
        find_weights("pretrained", tmp_path, kind="resnet20")
    with pytest.raises(DataError, match="`bitproof data fetch evoapprox`"):
        EvoApprox(name="mul8s_1L2H").table(tmp_path)
    (check,) = verify_anything("evoapprox", tmp_path)
    assert not check.ok
    with pytest.raises(UnknownKindError, match=r"Did you mean 'resnet20-cifar10'\?"):
        fetch_anything("resnet20-cifar", tmp_path)


def c_model(name: str, *, signed: bool, drop: int = 0) -> str:
    """Return a multiplier of our own in the dialect of the library: rows of adders, bit by bit.

    `drop` columns of partial products are left out.
    """
    width = 16 if signed else 8
    lines = ["tmp = 0; O = 0;"]
    bit = "(({} >> {}) & 1)"
    for i in range(width):
        lines.append(f"c = 0; r{i} = 0;")
        for j in range(16 - i):
            if i + j < drop:
                continue
            a, b = bit.format("A", min(i, width - 1)), bit.format("B", min(j, width - 1))
            product = f"({a} & {b})" if j < width else "0"
            lines.append(f"tmp = {product}; s = ((O >> {i + j}) & 1) ^ tmp ^ c;")
            lines.append(f"c = (((O >> {i + j}) & 1) & tmp) | (c & (((O >> {i + j}) & 1) ^ tmp));")
            lines.append(f"r{i} |= (s & 1) << {i + j};")
        keep = (1 << i) - 1 if i else 0
        lines.append(f"O = (O & {keep}) | r{i};")
    kind = "int" if signed else "uint"
    names = ", ".join(f"r{i}" for i in range(width))
    return (
        f"/* a * b; */ #include <stdint.h>\n// MAE = 0\n"
        f"{kind}16_t {name}(const {kind}8_t A, const {kind}8_t B)\n{{\n"
        f"  uint64_t O, {names}; uint8_t tmp, s, c;   int avg=0;\n  "
        + "\n  ".join(lines)
        + "\n  return O;\n}\n"
    )


@pytest.mark.parametrize("signed", [False, True])
def test_a_c_model_gives_all_its_products(signed: bool) -> None:
    codes = np.arange(256).astype(np.int8 if signed else np.uint8).astype(np.int64)
    found = products_of_c(c_model("f", signed=signed), "f.c", signed=signed)
    assert np.array_equal(found, np.outer(codes, codes))
    assert found.dtype == (np.int16 if signed else np.uint16)


@pytest.mark.parametrize("declared", ["uint8_t s = A + B;", "uint8_t s; s = A + B;"])
def test_what_a_c_model_declares_with_a_value_is_as_narrow_as_its_type(declared: str) -> None:
    text = f"uint16_t f(uint8_t A, uint8_t B) {{ {declared} return s; }}"
    codes = np.arange(256)
    wanted = (codes[:, None] + codes) % 256
    assert np.array_equal(products_of_c(text, "f.c", signed=False), wanted)


@pytest.mark.parametrize(
    "body",
    [
        "return system(A);",
        "return A * B;",
        "return A << 70;",
        "return x;",
        "while (A) { A = A; } return A;",
        "O = A",
        "return __import__('os');",
        "return A[0];",
        "return 10 ** 10 ** 10;",
    ],
)
def test_anything_else_in_a_c_model_is_refused(body: str) -> None:
    with pytest.raises(DataError, match=r"f\.c: "):
        products_of_c(f"uint16_t f(uint8_t A, uint8_t B) {{ {body} }}", "f.c", signed=False)


def test_a_library_is_made_of_c_models_whose_products_are_right(
    site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    rows = []
    for number, drop in enumerate((0, 3)):
        name, file = f"mul8u_T{number}", f"multiplers/8x8_unsigned/own/mul8u_T{number}.c"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        text = c_model(name, signed=False, drop=drop)
        (folder / file).write_text(text)
        sums = hashlib.sha1(products_of_c(text, file, signed=False).tobytes()).hexdigest()
        rows.append({**library_rows()[1][20], "name": name, "circuit": name, "lut": name})
        rows[-1] |= {"sha1": sums, "c_file": f"v1.1:{file}", "signed": False}
    monkeypatch.setattr("bitproof.approx.fetch_library.library_rows", lambda: (b"[]", rows))
    (path,) = fetch_anything("evoapprox", tmp_path / "data", mirror=url)
    with np.load(path) as stored:
        assert np.array_equal(stored["mul8u_T0"], np.outer(np.arange(256), np.arange(256)))
        assert not np.array_equal(stored["mul8u_T1"], stored["mul8u_T0"])
    assert wrong_tables(path) == []
    assert [check.ok for check in verify_anything("evoapprox", tmp_path / "data")] == [True]
    rows[1]["sha1"] = "0" * 40
    assert wrong_tables(path) == ["mul8u_T1"]
    with pytest.raises(ChecksumError, match="wanted the products of mul8u_T1"):
        fetch_anything("evoapprox", tmp_path / "data", mirror=url)
    with pytest.raises(DataError, match="HTTP 404"):
        fetch_anything("evoapprox", tmp_path / "other", mirror=f"{url}/nowhere")


def test_the_rows_that_come_with_the_package_are_those_of_the_library(data_dir: Path) -> None:
    path = data_dir / "evoapprox8.npz"
    if not path.is_file():
        pytest.skip("no evoapprox8.npz in the data folder")
    with np.load(path) as stored:
        assert stored["_table_json"].tobytes() == library_rows()[0]
    assert wrong_tables(path) == []


def test_a_mirror_may_hold_the_finished_library(
    site: tuple[Path, str], tmp_path: Path, data_dir: Path
) -> None:
    source = data_dir / "evoapprox8.npz"
    if not source.is_file():
        pytest.skip("no evoapprox8.npz in the data folder")
    folder, url = site
    (folder / source.name).symlink_to(source)
    (path,) = fetch_anything("evoapprox", tmp_path / "data", mirror=url)
    assert path.read_bytes() == source.read_bytes()
