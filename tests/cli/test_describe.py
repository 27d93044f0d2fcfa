import re
from collections.abc import Callable
from typing import Any

import pytest

from bitproof.cli.describe import REGISTRIES, TABLES, describe_all, describe_kind, toml_text
from bitproof.core.spec import Spec
from bitproof.quant import AffineQuantizer
from bitproof.train import Optimization

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""

KINDS = [(group, kind) for group, registry in REGISTRIES.items() for kind in registry.kinds()]


def parameters(text: str) -> set[str]:
    return set(re.findall(r"^  (\w+): .*; (?:default|required)", text, re.MULTILINE)) | set(
        re.findall(r"^  (\w+): .*(?:\n {6}.*){1,2};", text, re.MULTILINE)
    )


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_every_component_tells_its_parameters(group: str, kind: str) -> None:
    spec: type[Spec] = REGISTRIES[group].find(kind)
    (text,) = [
        part
        for part in re.split(r"\n(?=\S)", describe_kind(kind))
        if part.startswith(f"{group}: {kind} ({spec.__name__})")
    ]
    flat = " ".join(text.split())
    for name, field in spec.model_fields.items():
        if name == "kind":
            continue
        assert f" {name}: " in flat
        assert " ".join((field.description or "").split()) in flat


@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_tells_its_parameters(name: str) -> None:
    told = parameters(describe_kind(name)) - {"Model", "Source"}
    assert told == set(TABLES[name].model_fields)


def test_everything_is_told_once() -> None:
    heads = re.findall(r"^\S.*$", describe_all(), re.MULTILINE)
    assert len(heads) == len(KINDS) + len(TABLES)
    assert len(set(heads)) == len(heads)


def test_types_limits_defaults_units_and_sources_are_told() -> None:
    text = describe_kind("random_flips")
    assert "  ber: number, >= 0, <= 1; required\n      Bit error rate" in text
    assert "  Model:  each of the" in text
    assert "  Source: Stutz et al." in text
    text = describe_kind("train")
    assert "  epochs: integer, >= 1, <= 1e+06; default 20" in text
    assert '  max_norm: number, > 0, <= 1e+15, or "none"; default "none"' in text
    schedules = '"cosine" | "one_cycle" | "cyclic" | "multi_step" | "constant"'
    assert f'  schedule: {schedules}; default "cosine"' in text
    assert "  nesterov: true or false; default false" in text
    text = describe_kind("recipe")
    assert "  data: one of data; required" in text
    assert (
        "  variants: list of (text), at least 1 long, at most 1000 long; default "
        '["float", "baseline"]' in text
    )
    assert "  stages: tables by name, each one of hardening, at most 1000 long" in text
    assert '  train: table (Optimization), or "none"; default "none"' in text
    assert "  seed: integer, >= 0; default 0" in text


def test_a_class_name_and_a_registry_will_do() -> None:
    assert describe_kind("Optimization") == describe_kind("train")
    assert all(
        f"attacks: {kind} (" in describe_kind("attacks") for kind in REGISTRIES["attacks"].kinds()
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "0.0313725"),
        ("a", '"a"'),
        (None, '"none"'),
        ((1, True), "[1, true]"),
        ({}, "{}"),
        (Optimization(epochs=3), "{ epochs = 3 }"),
        (AffineQuantizer(bits=4), '{ kind = "affine", bits = 4 }'),
    ],
)
def test_defaults_look_as_in_a_recipe(value: object, text: str) -> None:
    assert toml_text(value) == text


def test_describe_prints_it(call: Call) -> None:
    assert call("describe", "fgsm") == (0, describe_kind("fgsm") + "\n", "")
    assert call("describe") == (0, describe_all() + "\n", "")


def test_an_unknown_kind_names_the_nearest(call: Call) -> None:
    assert call("describe", "linf_pdg") == (
        2,
        "",
        "bitproof: describe: no kind 'linf_pdg'. Did you mean 'linf_pgd'?\n",
    )
