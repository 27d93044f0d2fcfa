from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from bitproof.core.errors import SpecError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec, canonical_json, describe_problems
from bitproof.core.types import Bits, Count, Fraction, Index, NonNegative, Positive, Probability


class Animal(Spec):
    kind: str


ANIMALS: Registry[Animal] = Registry("animals of these tests")


class Collar(Spec):
    colour: Literal["red", "blue"] = "red"
    holes: Count = 5


@ANIMALS.register
class Dog(Animal):
    kind: Literal["dog"] = "dog"
    weight_kg: Positive = 8.0
    collar: Collar = Collar()


AnyAnimal = Annotated[SerializeAsAny[Animal], BeforeValidator(ANIMALS.validate)]


class Zoo(Spec):
    name: str
    animals: dict[str, AnyAnimal] = Field(default_factory=dict)
    queue: tuple[AnyAnimal, ...] = ()
    favourite: AnyAnimal | None = Dog()
    visitors: Index | None = None


def problem(table: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        Zoo.from_table(table)
    return str(caught.value)


def test_equal_content_is_an_equal_value() -> None:
    assert Dog(weight_kg=3.0) == Dog(weight_kg=3.0)
    assert hash(Dog(weight_kg=3.0)) == hash(Dog(weight_kg=3.0))
    assert Dog(weight_kg=3.0).digest() == Dog(weight_kg=3).digest()


def test_digest_is_the_same_on_every_machine() -> None:
    # python -c 'import hashlib, json; print(hashlib.sha256(json.dumps({"colour": "red",
    #   "holes": 5}, sort_keys=True, separators=(",", ":")).encode()).hexdigest())'
    assert Collar().digest() == ("81ab80ec860ac3f9cfc23af19bb0e0c4c2640c46de6166a0a3d6a5a836346cf0")


def test_digest_follows_every_field() -> None:
    digests = {Dog(), Dog(weight_kg=9.0), Dog(collar=Collar(holes=6))}
    assert len({dog.digest() for dog in digests}) == 3


def test_values_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Dog().weight_kg = 3.0  # type: ignore[misc]


def test_component_survives_its_own_table() -> None:
    zoo = Zoo(name="z", animals={"a": Dog(weight_kg=2.0)}, queue=(Dog(),), visitors=3)
    assert Zoo.from_table(zoo.model_dump(mode="json")) == zoo
    assert Zoo.model_validate_json(zoo.model_dump_json()) == zoo


def test_unknown_field_names_the_nearest() -> None:
    assert problem({"nmae": "z", "name": "z"}) == "nmae: no such field. Did you mean 'name'?"


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({"animals": {"rex": {"kind": "dog", "collar": {"hole": 3}}}}, "animals.rex.collar.hole"),
        ({"queue": [{"kind": "dog"}, {"kind": "dog", "collar": {"hole": 3}}]}, "queue.1.collar.h"),
        ({"favourite": {"kind": "dog", "collar": {"hole": 3}}}, "favourite.collar.hole"),
    ],
)
def test_nearest_field_is_found_behind_a_registry(table: dict[str, Any], where: str) -> None:
    message = problem({"name": "z", **table})
    assert message.startswith(where)
    assert message.endswith("no such field. Did you mean 'holes'?")


def test_every_problem_is_told() -> None:
    message = problem({"animals": {"rex": {"kind": "dog", "weigth_kg": 1.0, "weight_kg": -1.0}}})
    assert message.split("; ") == [
        "name: wanted a value, none came",
        "animals.rex.weight_kg: should be greater than 0, got -1.0",
        "animals.rex.weigth_kg: no such field. Did you mean 'weight_kg'?",
    ]


def test_unknown_kind_names_the_nearest() -> None:
    assert "no kind 'dogg'. Did you mean 'dog'?" in problem(
        {"name": "z", "favourite": {"kind": "dogg"}}
    )


def test_the_word_none_is_none_where_none_will_do() -> None:
    zoo = Zoo.model_validate({"name": "none", "favourite": "none", "visitors": "none"})
    assert (zoo.name, zoo.favourite, zoo.visitors) == ("none", None, None)
    assert "weight_kg: should be a valid number, got 'none'" in problem(
        {"name": "z", "queue": [{"kind": "dog", "weight_kg": "none"}]}
    )


def test_errors_of_other_people_s_validators_pass_through() -> None:
    class Picky(Spec):
        size: int = 0

        @field_validator("size")
        @classmethod
        def _check(cls, size: int) -> int:
            raise PydanticCustomError("too_plain", f"wanted {{more}} than {size}")

    class Outer(Spec):
        inner: Picky

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {"size": 1}})
    assert describe_problems(caught.value, Outer) == ["inner.size: wanted {more} than 1, got 1"]


class Numbers(Spec):
    probability: Probability = 0.5
    fraction: Fraction = 0.5
    positive: Positive = 0.5
    non_negative: NonNegative = 0.5
    count: Count = 1
    index: Index = 0
    bits: Bits = 8


FIELDS = list(Numbers.model_fields)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ["0.5", "1", True, None, [1], float("nan"), float("inf"), -0.5])
def test_numbers_refuse_what_is_none(name: str, value: object) -> None:
    with pytest.raises(SpecError, match=name):
        Numbers.from_table({name: value})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("probability", [0, 0.0, 1.0], [1.0000001]),
        ("fraction", [1, 1e-30], [0.0, 1e-300]),
        ("positive", [1e-30, 1e15], [0.0, 1e-300, 1e59, 10**400]),
        ("non_negative", [0.0, 1e15], [-1e-300, 1e59]),
        ("count", [1, 10**9], [0, 1.0, 2**63, 10**5000]),
        ("index", [0, 10**9], [-1, 2**62]),
        ("bits", [2, 8], [1, 9]),
    ],
)
def test_ends_of_ranges(name: str, good: list[float], bad: list[float]) -> None:
    for value in good:
        assert getattr(Numbers.from_table({name: value}), name) == value
    for value in bad:
        with pytest.raises(SpecError, match=name):
            Numbers.from_table({name: value})


def test_canonical_json_ignores_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": [1, 2.5]}) == '{"a":[1,2.5],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
