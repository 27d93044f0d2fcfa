from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch

from bitproof.core.errors import DataError
from bitproof.data.dataset import Dataset, Published
from bitproof.data.layout import VARIABLE, Layout, find_file, find_layout


def nothing(folder: Path) -> Published:
    empty = Dataset(
        name=str(folder),
        images=torch.zeros((0, 1, 2, 2), dtype=torch.uint8),
        labels=torch.zeros(0, dtype=torch.int64),
        n_classes=1,
    )
    return Published(train=empty, test=empty)


def layout(
    name: str,
    folders: Sequence[str],
    files: Sequence[str],
    variant: Literal["full", "mini"] = "full",
) -> Layout:
    return Layout(
        name=name,
        folders=tuple(folders),
        files=tuple(files),
        read=nothing,
        count=lambda _: (0, 0),
        variant=variant,
    )


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


PLAIN = layout("plain", ["set", "Set/raw"], ["a", "b|b.gz"])
OTHER = layout("other", ["other"], ["x"])
MINI = layout("mini", ["mini"], ["m"], "mini")


@pytest.mark.parametrize("start", [".", "Set", "Set/raw"])
def test_the_data_folder_may_be_any_part_of_the_way(tmp_path: Path, start: str) -> None:
    touch(tmp_path / "Set/raw/a")
    touch(tmp_path / "Set/raw/b.gz")
    found, folder = find_layout("kind", [PLAIN], tmp_path / start)
    assert (found.name, folder) == ("plain", tmp_path / "Set/raw")


def test_files_of_another_folder_are_not_taken_for_the_set(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/a")
    touch(tmp_path / "elsewhere/b")
    with pytest.raises(DataError, match="kind: not found"):
        find_layout("kind", [PLAIN], tmp_path / "elsewhere")


def test_the_first_complete_layout_wins(tmp_path: Path) -> None:
    for name in ("set/a", "set/b", "other/x", "mini/m"):
        touch(tmp_path / name)
    assert find_layout("kind", [PLAIN, OTHER, MINI], tmp_path)[0] is PLAIN
    assert find_layout("kind", [OTHER, PLAIN, MINI], tmp_path)[0] is OTHER
    (tmp_path / "set/a").unlink()
    assert find_layout("kind", [PLAIN, OTHER, MINI], tmp_path)[0] is OTHER


def test_half_a_full_set_does_not_fall_through_to_the_mini_set(tmp_path: Path) -> None:
    touch(tmp_path / "set/a")
    touch(tmp_path / "mini/m")
    with pytest.raises(DataError, match=r"kind: incomplete in .*/set, wanted also b\. Get"):
        find_layout("kind", [PLAIN, MINI], tmp_path)
    (tmp_path / "set/a").unlink()
    assert find_layout("kind", [PLAIN, MINI], tmp_path)[0] is MINI


def test_an_error_names_every_folder_and_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_layout("kind", [PLAIN, MINI], tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"{tmp_path}/set or {tmp_path}/Set/raw (a, b)", f"{tmp_path}/mini (m)"):
        assert part in message
    for way in ("bitproof data fetch kind", "--data-dir", VARIABLE):
        assert way in message


def test_the_variable_names_the_folder_where_no_argument_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "other/x")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert find_layout("kind", [OTHER], None)[1] == tmp_path / "other"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(tmp_path)  # nothing lies in the usual places
    with pytest.raises(DataError, match=f"no --data-dir, and {VARIABLE} is not set; .* other"):
        find_layout("kind", [OTHER], None)


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"data folder {tmp_path}/no does not exist"):
        find_layout("kind", [OTHER], tmp_path / "no")


def test_an_absolute_folder_needs_no_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    touch(tmp_path / "x")
    system = layout("system", [str(tmp_path)], ["x"])
    assert find_layout("kind", [system], None)[1] == tmp_path


def test_alternatives_are_tried_in_order(tmp_path: Path) -> None:
    assert find_file(tmp_path, "b|b.gz") is None
    packed = touch(tmp_path / "b.gz")
    assert find_file(tmp_path, "b|b.gz") == packed
    plain = touch(tmp_path / "b")
    assert find_file(tmp_path, "b|b.gz") == plain
