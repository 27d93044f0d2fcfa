import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitproof.core.errors import DataError, UnknownKindError
from bitproof.data.cifar import PUBLISHED
from bitproof.data.inventory import available, verify
from bitproof.data.layout import VARIABLE, data_root

GARBAGE = hashlib.md5(b"garbage").hexdigest()


@pytest.fixture
def batches(tmp_path: Path, publish: Callable[[Path, dict[str, object]], None]) -> Path:
    """Return a data folder with a small CIFAR-100 of the official form."""
    for name, n in (("train", 6), ("test", 2)):
        batch: dict[str, object] = {"data": np.zeros((n, 3072), np.uint8), "fine_labels": [0] * n}
        publish(tmp_path / "cifar-100-python" / name, batch)
    return tmp_path


def test_the_list_tells_what_is_there_and_what_is_not(batches: Path) -> None:
    rows = {row.kind: row for row in available(batches)}
    assert {"cifar10", "cifar100", "digits", "fashion_mnist", "gtsrb", "mnist"} <= rows.keys()
    assert rows["cifar100"][1:] == (True, "python batches", 6, 2, batches / "cifar-100-python")
    assert rows["digits"][1:] == (True, "needs no files", 1_258, 539, None)
    assert rows["mnist"][1:] == (False, "", None, None, None)


def test_an_unreadable_set_is_listed_as_such(batches: Path) -> None:
    (batches / "cifar-100-python" / "test").write_bytes(b"garbage")
    row = next(row for row in available(batches) if row.kind == "cifar100")
    assert row.present
    assert row.layout.startswith("unreadable: ")
    assert row.n_train is None


def test_without_a_data_folder_only_the_built_in_set_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)  # nothing lies in the usual places
    present = {row.kind for row in available() if row.present}
    assert present - {"fashion_mnist"} == {"digits"}  # Debian may have installed the other


def test_a_data_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        available(tmp_path / "no")
    with pytest.raises(DataError, match="does not exist"):
        verify("mnist", tmp_path / "no")


def test_published_checksums_are_compared(batches: Path) -> None:
    checks = verify("cifar100", batches)
    assert [check.status for check in checks[:2]] == ["md5 is right"] * 2
    assert checks[2] == ("cifar100", "loads: 6 training and 2 test images", True)
    (batches / "cifar-100-python" / "train").write_bytes(b"garbage")
    checks = verify("cifar100", batches)
    assert [check.ok for check in checks] == [False, True, False]
    assert checks[0].status == f"wanted md5 {PUBLISHED['train']}, got {GARBAGE}"
    assert checks[2].status.endswith("; not unpickled")


@pytest.mark.parametrize("beside", [True, False])
def test_sums_beside_or_above_the_files_come_first(batches: Path, beside: bool) -> None:
    folder = batches / "cifar-100-python"
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  "
        f"{'' if beside else 'cifar-100-python/'}{name}"
        for name in ("train", "test")
    ]
    ((folder if beside else batches) / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    assert [check.status for check in verify("cifar100", batches)][:2] == ["sha256 is right"] * 2
    (folder / "test").write_bytes((folder / "train").read_bytes())
    checks = verify("cifar100", batches)
    assert [check.ok for check in checks] == [True, False, False]
    assert "wanted sha256" in checks[1].status


def test_a_missing_set_is_one_failed_check(tmp_path: Path) -> None:
    (check,) = verify("mnist", tmp_path)
    assert not check.ok
    assert check.status.startswith("mnist: not found")


def test_the_built_in_set_needs_no_files(tmp_path: Path) -> None:
    assert [check.ok for check in verify("digits", tmp_path)] == [True]


def test_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownKindError, match="no kind 'zzz'"):
        verify("zzz", tmp_path)


def test_real_data_verify(data_dir: Path) -> None:
    checks = verify("cifar100", data_dir / "mini")
    assert [check.status for check in checks] == [
        "sha256 is right",
        "loads: 2000 training and 1000 test images",
    ]


def test_one_flipped_bit_in_real_data_is_found(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    shutil.copy(data_dir / "SHA256SUMS", tmp_path)
    content = bytearray((data_dir / "mini" / "gtsrb-mini.npz").read_bytes())
    content[1_000_000] ^= 1
    (tmp_path / "mini" / "gtsrb-mini.npz").write_bytes(content)
    checks = verify("gtsrb", tmp_path)
    assert not checks[0].ok
    assert not checks[-1].ok  # the npz has a checksum of its own


def test_data_lie_where_fetch_puts_them_if_nobody_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert data_root(None) == tmp_path / "data"
