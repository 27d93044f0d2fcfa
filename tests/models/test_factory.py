import sys
from pathlib import Path

import pytest
from torch import nn

from bitproof.core.errors import ModelError, SpecError
from bitproof.core.rng import make_generator
from bitproof.models import MODELS, Factory

USER_CODE = """
import torch
from torch import nn

seen = {}
not_a_callable = 3

def no_arguments():
    return nn.Linear(2, 2)

def all_sizes(in_channels, image_size, n_classes, depth=1):
    seen.update(in_channels=in_channels, image_size=image_size, n_classes=n_classes, depth=depth)
    return nn.Linear(in_channels * image_size**2, n_classes)

def wants_more(n_classes, depth):
    return nn.Linear(1, n_classes)

def returns_a_number():
    return 7

def imports_late():
    from factory_neighbour import make
    return make()
"""


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_factory.py").write_text(USER_CODE)
    (tmp_path / "factory_neighbour.py").write_text("from torch.nn import Identity as make\n")
    (tmp_path / "factory_needy.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    for name in ("user_factory", "factory_neighbour", "factory_needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def build(factory: str) -> nn.Module:
    return Factory(factory=factory).build(
        in_channels=3, image_size=8, n_classes=5, generator=make_generator(0)
    )


def test_a_callable_without_arguments_is_called_without_any() -> None:
    assert isinstance(build("user_factory:no_arguments"), nn.Linear)


def test_a_callable_gets_the_sizes_that_it_names() -> None:
    build("user_factory:all_sizes")
    assert sys.modules["user_factory"].seen == {
        "in_channels": 3,
        "image_size": 8,
        "n_classes": 5,
        "depth": 1,
    }


def test_the_callable_may_import_its_neighbours_late() -> None:
    assert isinstance(build("user_factory:imports_late"), nn.Identity)


def test_the_search_path_is_put_back(user_folder: Path) -> None:
    before = list(sys.path)
    build("user_factory:no_arguments")
    with pytest.raises(ModelError):
        build("no_such_module_of_mine:make")
    assert sys.path == before


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_module_of_mine:make", "no module 'no_such_module_of_mine' among"),
        ("torch.no_such_part:make", "no module 'torch.no_such_part' among"),
        ("factory_needy:make", "cannot import 'factory_needy': No module named 'a_package"),
        ("user_factory:no_argument", "Did you mean 'no_arguments'?"),
        ("user_factory:not_a_callable", "wanted a callable, got int 'not_a_callable'"),
        ("user_factory:wants_more", "missing a required argument: 'depth'"),
        ("user_factory:returns_a_number", "wanted it to return a torch.nn.Module, got int"),
    ],
)
def test_mistakes_are_told_in_one_line(factory: str, message: str) -> None:
    with pytest.raises(ModelError) as error:
        build(factory)
    assert message in str(error.value)
    assert f"factory '{factory}'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("factory", ["", "module", "module:", ":make", "a b:make", "m:f()", "m:1"])
def test_a_name_without_module_and_callable_is_refused(factory: str) -> None:
    with pytest.raises(SpecError, match="factory"):
        MODELS.build({"kind": "factory", "factory": factory})


def test_errors_inside_the_users_code_are_told_with_their_line(user_folder: Path) -> None:
    (user_folder / "user_factory.py").write_text("def make():\n    return 1 / 0\n")
    with pytest.raises(ModelError, match=r"ZeroDivisionError: .*user_factory\.py:2"):
        build("user_factory:make")


def test_errors_of_the_import_are_told_with_their_line(user_folder: Path) -> None:
    (user_folder / "user_broken.py").write_text("import os\nraise ValueError('no')\n")
    with pytest.raises(ModelError, match=r"ValueError: no .*user_broken\.py:2"):
        build("user_broken:make")
