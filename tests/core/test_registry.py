from importlib.metadata import EntryPoint
from typing import Any, Literal

import pytest

from bitproof.core import registry as module
from bitproof.core.errors import AdapterError, SpecError, UnknownKindError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec


class Fruit(Spec):
    kind: str


class Apple(Fruit):
    kind: Literal["apple"] = "apple"
    weight: int = 1


class Plum(Fruit):
    """Comes from another package, as far as the registry knows."""

    kind: Literal["plum"] = "plum"


@pytest.fixture
def fruit() -> Registry[Fruit]:
    registry: Registry[Fruit] = Registry("fruit")
    registry.register(Apple)
    return registry


@pytest.mark.parametrize("table", ["apple", {"kind": "apple"}, {"kind": "apple", "weight": 1}])
def test_a_table_builds_what_the_constructor_builds(table: object, fruit: Registry[Fruit]) -> None:
    assert fruit.build(table) == Apple(weight=1)


def test_a_component_comes_back_as_it_is(fruit: Registry[Fruit]) -> None:
    apple = Apple(weight=3)
    assert fruit.build(apple) is apple


def test_unknown_kind_names_the_nearest(fruit: Registry[Fruit]) -> None:
    with pytest.raises(UnknownKindError, match=r"fruit: no kind 'aple'. Did you mean 'apple'\?"):
        fruit.build("aple")


@pytest.mark.parametrize("table", [{}, {"weight": 2}, 3, None, ""])
def test_a_table_without_kind_tells_the_kinds(table: object, fruit: Registry[Fruit]) -> None:
    with pytest.raises(UnknownKindError, match=r"wanted a table with 'kind', got .*Known: apple\."):
        fruit.build(table)


def test_a_wrong_field_is_named_with_its_kind(fruit: Registry[Fruit]) -> None:
    with pytest.raises(SpecError, match=r"apple\.wieght: no such field. Did you mean 'weight'\?"):
        fruit.build({"kind": "apple", "wieght": 2})


def test_registering_a_kind_twice_is_a_bug(fruit: Registry[Fruit]) -> None:
    class Golden(Fruit):
        kind: Literal["apple"] = "apple"

    with pytest.raises(AssertionError, match="twice"):
        fruit.register(Golden)


def test_a_module_may_be_loaded_again(fruit: Registry[Fruit]) -> None:
    again = type(Apple.__name__, (Apple,), {"__module__": __name__})
    assert fruit.register(again) is again
    assert fruit.find("apple") is again


def test_kinds_are_sorted_and_iteration_gives_classes(fruit: Registry[Fruit]) -> None:
    fruit.register(Plum)
    assert fruit.kinds() == ["apple", "plum"]
    assert list(fruit) == [Apple, Plum]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Registry[Fruit]:
    def points(**wanted: Any) -> list[EntryPoint]:
        assert wanted == {"group": "bitproof.fruit"}
        return [
            EntryPoint("plum", f"{__name__}:Plum", wanted["group"]),
            EntryPoint("quince", "nowhere.at_all:Quince", wanted["group"]),
        ]

    monkeypatch.setattr(module, "entry_points", points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: _load(self.value))
    return Registry("fruit")


def _load(value: str) -> type[Fruit]:
    if value.endswith("Plum"):
        return Plum
    raise ModuleNotFoundError("No module named 'nowhere'")


def test_entry_points_add_kinds(plugged: Registry[Fruit]) -> None:
    assert plugged.kinds() == ["plum", "quince"]
    assert plugged.build({"kind": "plum"}) == Plum()


def test_an_entry_point_that_cannot_be_loaded_is_named(plugged: Registry[Fruit]) -> None:
    with pytest.raises(AdapterError, match=r"fruit: kind 'quince' .*nowhere\.at_all:Quince"):
        plugged.find("quince")
