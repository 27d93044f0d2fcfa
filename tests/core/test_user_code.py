import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitproof.core.errors import BitproofWarning, ModelError
from bitproof.core.user_code import call, find_callable, folders, looking_in

NAMES = ("own_net", "own_part", "own_package", "own_package.net")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    (folder / "own_package").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder / "own_net.py").write_text("def make(size=1):\n    return size\n")
    (folder / "own_package" / "net.py").write_text("def make():\n    return 'package'\n")
    yield folder
    for name in NAMES:
        sys.modules.pop(name, None)


def find(name: str) -> object:
    return find_callable(name, what="factory", problem=ModelError)


def test_a_module_beside_the_recipe_is_found_from_anywhere(recipes: Path) -> None:
    before = list(sys.path)
    with pytest.raises(ModelError, match=r"no module 'own_net' .*elsewhere"):
        find("own_net:make")
    with looking_in(recipes):
        made = find("own_net:make")
        assert find("own_package.net:make")() == "package"  # type: ignore[operator]
    assert call(made, {"size": 3, "other": 4}, name="m", what="f", problem=ModelError) == 3  # type: ignore[arg-type]
    assert (sys.path, folders()) == (before, ())


def test_the_recipes_folder_comes_before_the_working_directory(recipes: Path) -> None:
    Path("own_net.py").write_text("def make():\n    return 'working directory'\n")
    with looking_in(recipes):
        assert find("own_net:make")() == 1  # type: ignore[operator]


def test_a_module_of_another_recipe_is_not_taken_for_this_ones(
    recipes: Path, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_net.py").write_text(
            "from own_part import NAME\nmake = NAME.title\n"
        )
        (tmp_path / name / "own_part.py").write_text(f"NAME = '{name}'\n")
    for name in ("one", "other", "one"):
        with looking_in(tmp_path / name, recipes):
            assert find("own_net:make")() == name.title()  # type: ignore[operator]


def test_what_hides_an_installed_package_is_told(
    recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site"
    installed.mkdir()
    (installed / "own_part.py").write_text("def make():\n    return 'installed'\n")
    (recipes / "own_part.py").write_text("def make():\n    return 'own'\n")
    monkeypatch.syspath_prepend(installed)
    with (
        looking_in(recipes),
        pytest.warns(BitproofWarning, match=r"recipes.own_part.py, which hides .*site.own_part"),
    ):
        assert find("own_part:make")() == "own"  # type: ignore[operator]


def test_a_module_named_like_a_loaded_package_is_refused(recipes: Path) -> None:
    (recipes / "torch.py").write_text("make = print\n")
    with looking_in(recipes), pytest.raises(ModelError, match=r"give yours another name"):
        find("torch:make")


def test_a_folder_named_like_a_package_hides_nothing(recipes: Path) -> None:
    (recipes / "torch").mkdir()
    with looking_in(recipes):
        assert find("torch.nn:Flatten") is sys.modules["torch.nn"].Flatten
