"""Threats on approximate multipliers: the counts of networks that were put on them by hand."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.approx import Drum, Exact, SignMagnitude, Stored, Truncated, with_multipliers
from bitproof.approx.base import Multiplier
from bitproof.approx.deploy import Arithmetic
from bitproof.approx.stored import write_products
from bitproof.attacks import LinfAPGD, LinfPGD
from bitproof.core.errors import ChecksumError, DataError, QuantizationError, SpecError
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialBitErrors,
    AdversarialExamples,
    AttackOnFaultyChip,
    BlackBoxCheck,
    Clean,
    Evaluation,
    FloatModel,
    IntegerModel,
    MemoryFaults,
    OnMultiplier,
    TallyStore,
    Threat,
)
from bitproof.faults import ProgressiveBitSearch, Ranger
from bitproof.injection import RegisterFaults
from bitproof.metrics import Segmentation, Tally
from bitproof.quant import quantize
from bitproof.recipe import Recipe, read_recipe
from bitproof.recipe.toml import write_recipe

COARSE = SignMagnitude(of=Truncated(columns=11))
PGD = LinfPGD(epsilon=0.1, steps=2)
INSIDE: dict[str, Threat] = {
    "clean": Clean(images=200),
    "memory": MemoryFaults(levels=(1e-2, 1e-1), chips=3, images=60),
    "bounds": MemoryFaults(levels=(1e-1,), chips=2, images=60, protections=(Ranger(),)),
    "attack": AdversarialExamples(attack=PGD, levels=(0.05, 0.1), images=120),
    "bits": AdversarialBitErrors(
        attack=ProgressiveBitSearch(), levels=(1.0, 3.0), batches=2, attack_images=20, images=60
    ),
    "both": AttackOnFaultyChip(attack=PGD, levels=(0.1,), chips=2, images=40),
}


def table_file(path: Path, products: Multiplier) -> Stored:
    """Write the products of a multiplier, and return the one that reads them."""
    write_products(path, products.table())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Stored(path=path.name, signed=True, sha256=digest)


def counts(threat: Threat, model: IntegerModel | FloatModel, data: Dataset) -> list[Tally]:
    return [
        threat.measure(model, data, level=level, trial=trial, seed=3)
        for level, trial in threat.tasks(data)
    ]


@pytest.fixture
def profiled(integers: IntegerModel, data: Dataset) -> IntegerModel:
    return replace(integers, profile=data.first(50))


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE.keys())
def test_counts_are_those_of_the_network_put_there_by_hand(
    inside: Threat, profiled: IntegerModel, data: Dataset
) -> None:
    threat = OnMultiplier(multiplier=COARSE, threat=inside)
    there = replace(profiled, network=with_multipliers(profiled.network, COARSE))
    found = counts(threat, profiled, data)
    assert threat.tasks(data) == inside.tasks(data)
    assert found == counts(inside, there, data)
    assert found != counts(inside, profiled, data), "the multiplier must matter"
    by_level: dict[float, list[Tally]] = {}
    for (level, _), tally in zip(threat.tasks(data), found, strict=True):
        by_level.setdefault(level, []).append(tally)
    rows = threat.rows(by_level)
    assert {row.threat for row in rows} == {f"{inside.title}_on_multiplier"}
    assert [replace(row, threat=inside.title) for row in rows] == inside.rows(by_level)


def test_what_the_network_multiplied_with_before_goes(
    profiled: IntegerModel, data: Dataset
) -> None:
    names = [node.name for node in profiled.network.nodes if node.op in {"conv", "linear"}]
    before = replace(
        profiled,
        network=with_multipliers(profiled.network, SignMagnitude(of=Truncated(columns=12))),
    )
    for threat in (
        OnMultiplier(multiplier=COARSE),
        OnMultiplier(layers={names[0]: COARSE}),
        OnMultiplier(multiplier=Exact(signed=True)),
    ):
        assert counts(threat, before, data) == counts(threat, profiled, data)
    assert counts(Clean(), before, data) != counts(Clean(), profiled, data)


def test_single_layers_and_filters_have_their_own(profiled: IntegerModel, data: Dataset) -> None:
    first, last = (n.name for n in profiled.network.nodes if n.op in {"conv", "linear"})
    fine = Truncated(columns=3, signed=True)
    chosen: dict[str, Multiplier | tuple[Multiplier, ...]] = {first: (COARSE, fine, COARSE)}
    threat = OnMultiplier(layers=chosen, threat=INSIDE["memory"])
    there = with_multipliers(profiled.network, chosen)
    assert set(there.products) == {first}
    assert counts(threat, profiled, data) == counts(
        INSIDE["memory"], replace(profiled, network=there), data
    )
    rest = OnMultiplier(multiplier=fine, layers={last: COARSE})
    there = with_multipliers(profiled.network, {first: fine, last: COARSE})
    assert counts(rest, profiled, data) == counts(Clean(), replace(profiled, network=there), data)
    with pytest.raises(QuantizationError, match="no node 'frist'"):
        counts(OnMultiplier(layers={"frist": COARSE}), profiled, data)


def test_means_are_corrected_on_the_training_images_of_the_model(
    integers: IntegerModel, data: Dataset
) -> None:
    threat = OnMultiplier(multiplier=SignMagnitude(of=Truncated(columns=12)), correct_means=True)
    bright, dark = (
        Dataset.from_arrays(torch.full((20, 1, 4, 4), value), torch.arange(20) % 3)
        for value in (0.9, 0.1)
    )
    found = []
    for profile in (bright, dark, bright):  # of one network, one after the other
        model = replace(integers, profile=profile)
        network = threat.arithmetic.apply(integers.network, profile.inputs())
        found.append(counts(threat, model, data))
        assert found[-1] == counts(Clean(), replace(model, network=network), data)
    assert found[0] == found[2] != found[1]
    with pytest.raises(SpecError, match="wanted training images to correct means on"):
        counts(threat, integers, data)


def test_tables_are_those_of_the_folder_of_the_model(
    integers: IntegerModel, data: Dataset, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, products in zip(folders, (COARSE, Drum(width=5, signed=True)), strict=True):
        folder.mkdir()
        stored = table_file(folder / "mine.npz", products)
        model = replace(integers, data_dir=folder)
        there = with_multipliers(integers.network, stored, data_dir=folder)
        wanted = counts(Clean(), replace(integers, network=there), data)
        assert counts(OnMultiplier(multiplier=stored), model, data) == wanted
    with pytest.raises(ChecksumError):
        counts(OnMultiplier(multiplier=stored), replace(integers, data_dir=folders[0]), data)
    with pytest.raises(DataError, match="there is none"):
        counts(OnMultiplier(multiplier=stored), replace(integers, data_dir=tmp_path), data)


@pytest.mark.parametrize("where", ["everywhere", "inside another", "in a filter"])
def test_a_table_in_a_file_needs_its_checksum(where: str) -> None:
    """Another file of that name would be counted under the same key."""
    stored = Stored(path="mine.csv", signed=False)
    table: dict[str, dict[str, Any]] = {
        "everywhere": {"multiplier": stored},
        "inside another": {"multiplier": SignMagnitude(of=stored)},
        "in a filter": {"layers": {"fc": [COARSE, SignMagnitude(of=stored)]}},
    }
    with pytest.raises(SpecError, match=r"wanted the 'sha256' of 'mine.csv'"):
        OnMultiplier.from_table(table[where])


def test_keys_differ_where_counts_can(data: Dataset) -> None:
    different = [
        OnMultiplier(multiplier=COARSE),
        OnMultiplier(multiplier=Drum(width=4, signed=True)),
        OnMultiplier(multiplier=COARSE, correct_means=True),
        OnMultiplier(layers={"fc": COARSE}),
        OnMultiplier(multiplier=COARSE, layers={"fc": Exact(signed=True)}),
        OnMultiplier(multiplier=COARSE, threat=Clean(images=10)),
        *(OnMultiplier(multiplier=COARSE, threat=inside) for inside in INSIDE.values()),
        OnMultiplier(multiplier=Stored(path="a.csv", signed=True, sha256="0" * 64)),
        OnMultiplier(multiplier=Stored(path="a.csv", signed=True, sha256="1" * 64)),
        *INSIDE.values(),
    ]
    keys = [str(threat.identity(data)) for threat in different]
    assert len({*keys}) == len(keys)
    one, other = (
        OnMultiplier(
            name=name,
            multiplier=COARSE,
            threat=MemoryFaults(name=name, levels=levels, chips=chips, images=images),
        )
        for name, levels, chips, images in (("a", (0.1,), 2, 250), ("b", (0.1, 0.2), 9, None))
    )
    assert one.identity(data) == other.identity(data)


def test_levels_are_those_of_the_threat_inside() -> None:
    inside = INSIDE["memory"]
    threat = OnMultiplier(multiplier=COARSE, threat=inside)
    assert threat.levels == inside.levels
    assert OnMultiplier(multiplier=COARSE, threat=inside, levels=inside.levels) == threat
    assert OnMultiplier.from_table(threat.model_dump(mode="json")) == threat
    for levels in ((0.1,), (), 3, "none"):
        with pytest.raises(SpecError, match="levels: wanted them in 'threat'"):
            OnMultiplier.from_table({"multiplier": COARSE, "threat": inside, "levels": levels})


@pytest.mark.parametrize(
    "inside",
    [OnMultiplier(multiplier=COARSE), BlackBoxCheck(), RegisterFaults()],
    ids=lambda one: one.kind,
)
def test_threats_that_cannot_be_met_there_are_refused(inside: Threat) -> None:
    with pytest.raises(
        SpecError, match=f"wanted one that is met on multipliers, not {inside.kind}"
    ):
        OnMultiplier.from_table({"multiplier": COARSE, "threat": inside})


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ({}, "multiplier: wanted one, or 'layers', got neither"),
        ({"multiplier": "none"}, "multiplier: wanted one, or 'layers', got neither"),
        ({"multiplier": {"kind": "drun"}}, "Did you mean 'drum'"),
        ({"multiplier": COARSE, "threat": {"kind": "claen"}}, "Did you mean 'clean'"),
        ({"multiplier": COARSE, "threat": {"kind": "clean", "imags": 3}}, "imags: no such field"),
        ({"multiplier": COARSE, "threat": {"levels": [1]}}, "kind"),
        ({"multiplier": COARSE, "threat": 3}, "threat"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(table: dict[str, Any], wanted: str) -> None:
    with pytest.raises(SpecError, match=wanted) as error:
        OnMultiplier.from_table(table)
    assert "\n" not in str(error.value)


def test_a_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    threats = [
        OnMultiplier(name=name, multiplier=SignMagnitude(of=Drum(width=4)), threat=inside)
        for name, inside in INSIDE.items()
    ]
    last = OnMultiplier(name="last", layers={"fc": (COARSE, Exact(signed=True))})
    apgd = AdversarialExamples(attack=LinfAPGD(epsilon=0.1, losses=("dlr",)), levels=(0.1,))
    evaluation = Evaluation(threats=(*threats, last, apgd, RegisterFaults(faults="permanent")))
    toy = read_recipe(Path(__file__).parents[1] / "recipe" / "toy.toml")
    recipe = Recipe.model_validate({**toy.to_dict(), "evaluation": evaluation})
    path = tmp_path / "recipe.toml"
    write_recipe(recipe, path)
    again = read_recipe(path)
    assert again == recipe
    assert again.digest() == recipe.digest()
    write_recipe(again, tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_text() == path.read_text()


def test_a_float_model_is_not_measured_and_that_is_said(
    floats: FloatModel, integers: IntegerModel, data: Dataset
) -> None:
    for inside in INSIDE.values():
        threat = OnMultiplier(multiplier=COARSE, threat=inside)
        found: dict[float, list[Tally]] = {}
        for level, trial in threat.tasks(data):
            tally = threat.measure(floats, data, level=level, trial=trial, seed=0)
            found.setdefault(level, []).append(tally)
        assert {one for trials in found.values() for one in trials} == {Tally(0, 0)}
        assert threat.rows(found) == []
        (told,) = threat.warnings(found, {}, data)
        assert told.startswith(f"{threat.title} is not measured")


def test_warnings_of_the_threat_inside_come_with_the_name(data: Dataset) -> None:
    inside = AdversarialExamples(attack=PGD, levels=(0.05, 0.1), images=120)
    threat = OnMultiplier(multiplier=COARSE, threat=inside)
    found = {0.05: [Tally(20, 100), Tally(0, 20)], 0.1: [Tally(90, 100), Tally(0, 20)]}
    found[inside.huge(data)] = [Tally(0, 100)]
    (told,) = threat.warnings(found, {}, data)
    assert told.startswith("linf_pgd_on_multiplier: accuracy rises with epsilon")


def test_labels_say_what_is_met_where() -> None:
    one, chosen = ({"multiplier": COARSE}, {"layers": {"fc": COARSE}})
    clean = OnMultiplier.model_validate(one).label
    assert (clean.family, clean.title, clean.unit) == ("hardware", "One multiplier", "image")
    both = OnMultiplier.model_validate({**chosen, "threat": INSIDE["memory"]}).label
    assert (both.family, both.unit, both.symbol) == ("crossing", "chip", "BER")
    assert both.title == "Random bit flips, on chosen multipliers"


def test_the_threat_inside_looks_at_the_data(integers: IntegerModel) -> None:
    tokens = Dataset.from_arrays(torch.zeros(4, 3, dtype=torch.int64), [0, 1, 0, 1])
    threat = OnMultiplier(multiplier=COARSE, threat=INSIDE["attack"])
    with pytest.raises(SpecError, match="holds tokens"):
        threat.check(tokens)
    OnMultiplier(multiplier=COARSE, threat=INSIDE["memory"]).check(tokens)


def test_pixels_are_counted_as_without_multipliers() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 4, 4, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)).eval()
    network = quantize(model, images)
    data = Dataset.from_arrays(images, model(images).argmax(1), task=Segmentation())
    arithmetic = Arithmetic(multiplier=COARSE)
    there = IntegerModel(arithmetic.apply(network, images))
    for inside in (Clean(), INSIDE["memory"], INSIDE["both"]):
        threat = OnMultiplier(multiplier=COARSE, threat=inside)
        threat.check(data)
        assert counts(threat, IntegerModel(network), data) == counts(inside, there, data)
    store = TallyStore()
    evaluation = Evaluation(threats=(OnMultiplier(multiplier=COARSE, threat=INSIDE["memory"]),))
    with evaluation.open(lambda _name: IntegerModel(network), data) as pool:
        keys = evaluation.keys(network.digest(), data)
        evaluation.measure("v", keys, pool=pool, store=store)
    found = evaluation.counts(keys, store)
    assert found is not None
    assert "miou" in {row.metric for row in evaluation.rows("v", found)}
