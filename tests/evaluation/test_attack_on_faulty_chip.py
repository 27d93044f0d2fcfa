"""Attacks on faulty chips: the counts of networks that were broken, and attacked, by hand."""

import pytest
import torch
from torch import nn

from bitproof.attacks import FGSM, AutoAttack, LinfAPGD, LinfPGD
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialExamples,
    AttackOnFaultyChip,
    FloatModel,
    IntegerModel,
    MemoryFaults,
    Threat,
)
from bitproof.evaluation.adversarial_examples import BLOCK
from bitproof.faults import RandomFlips, SimulatedSram, corrupt
from bitproof.metrics import Segmentation, Tally
from bitproof.quant import quantize

PGD = LinfPGD(epsilon=0.1, steps=3)
FLIPS = RandomFlips(ber=0.03)
SMALL = AttackOnFaultyChip(fault=FLIPS, attack=PGD, levels=(0.05, 0.1), chips=3, images=120)


def counts(threat: Threat, model: IntegerModel, data: Dataset) -> dict[float, list[Tally]]:
    found: dict[float, list[Tally]] = {}
    for level, trial in threat.tasks(data):
        tally = threat.measure(model, data, level=level, trial=trial, seed=5)
        found.setdefault(level, []).append(tally)
    return found


def test_counts_are_those_of_a_network_broken_and_attacked_by_hand(
    integers: IntegerModel, data: Dataset
) -> None:
    found = counts(SMALL, integers, data)
    digest = integers.digest()
    for level, chips in found.items():
        for chip, tally in enumerate(chips):
            generator = make_generator(5, "chip", chip)
            broken = corrupt(integers.network, FLIPS, generator=generator, sites=("weight", "bias"))
            right = 0
            for block, start in enumerate(range(0, 120, BLOCK)):
                inputs = data.images[start : min(start + BLOCK, 120)]
                labels = data.labels[start : min(start + BLOCK, 120)]
                generator = make_generator(5, "attack", block)
                attacked = PGD.at(level).run(
                    broken.differentiable, inputs, labels, generator=generator
                )
                right += int((broken(attacked).argmax(1) == labels).sum())
            assert tally == Tally(right, 120)
    assert len({tally.correct for tally in found[0.05]}) > 1, "chips must differ"
    assert integers.digest() == digest


def test_its_chips_are_those_of_memory_faults(integers: IntegerModel, data: Dataset) -> None:
    """So that a crossing can be compared with both threats alone, chip by chip."""
    harmless = AttackOnFaultyChip(fault=FLIPS, attack=PGD, levels=(1e-12,), chips=4, images=90)
    alone = MemoryFaults(levels=(FLIPS.ber,), chips=4, images=90)
    assert counts(harmless, integers, data)[1e-12] == counts(alone, integers, data)[FLIPS.ber]
    whole = AttackOnFaultyChip(
        fault=RandomFlips(ber=0.0), attack=PGD, levels=(0.1,), chips=2, images=90
    )
    attack = AdversarialExamples(attack=PGD, levels=(0.1,), images=90)
    (unbroken,) = counts(attack, integers, data)[0.1]
    assert counts(whole, integers, data)[0.1] == [unbroken, unbroken]


def test_a_chip_is_the_unit_of_its_rows(integers: IntegerModel, data: Dataset) -> None:
    found = counts(SMALL, integers, data)
    rows = {(row.level, row.metric): row for row in SMALL.rows(found)}
    accs = [tally.correct / 120 for tally in found[0.1]]
    acc = rows[0.1, "acc"]
    assert (acc.threat, acc.n) == ("linf_pgd_on_faulty_chip", 3)
    assert acc.value == pytest.approx(sum(accs) / 3)
    assert rows[0.1, "acc_min"].value == min(accs)
    assert {one.right for trials in found.values() for one in trials} == {None}


def test_keys_differ_where_counts_can(data: Dataset) -> None:
    def threat(**other: object) -> AttackOnFaultyChip:
        table = {"fault": FLIPS, "attack": PGD, "levels": [0.1], "chips": 3, "images": 120}
        found = AttackOnFaultyChip.from_table({**table, **other})
        assert isinstance(found, AttackOnFaultyChip)
        return found

    different: list[Threat] = [
        threat(),
        threat(fault=RandomFlips(ber=0.02)),
        threat(fault=SimulatedSram(ber=0.03)),
        threat(attack=LinfPGD(epsilon=0.1, steps=4)),
        threat(attack=LinfAPGD(epsilon=0.1)),
        threat(attack=LinfAPGD(epsilon=0.1, losses=("dlr",))),
        threat(images=119),
        AdversarialExamples(attack=PGD, levels=(0.1,), images=120),
        MemoryFaults(fault=FLIPS, levels=(0.03,), images=120),
    ]
    keys = [str(one.identity(data)) for one in different]
    assert len({*keys}) == len(keys)
    same = [
        threat(name="a", chips=9, levels=[0.2], attack=PGD.at(0.4), images=images)
        for images in (250, 999, None)
    ]
    assert len({str(one.identity(data)) for one in same}) == 1
    assert threat(name="a", chips=9).identity(data) == threat().identity(data)


def test_a_float_model_is_not_measured(floats: FloatModel, data: Dataset) -> None:
    found = SMALL.measure(floats, data, level=0.1, trial=0, seed=0)
    assert found == Tally(0, 0)
    assert SMALL.rows({0.05: [found], 0.1: [found]}) == []


def test_accuracy_that_rises_with_the_radius_is_told(data: Dataset) -> None:
    found = {0.05: [Tally(20, 120)] * 3, 0.1: [Tally(20, 120), Tally(19, 120), Tally(24, 120)]}
    (told,) = SMALL.warnings(found, {}, data)
    assert told.startswith("accuracy rises with epsilon (0.167 at 0.05, 0.175 at 0.1)")
    assert SMALL.warnings({0.05: found[0.1], 0.1: found[0.05]}, {}, data) == []
    assert SMALL.warnings({level: [Tally(0, 0)] * 3 for level in SMALL.levels}, {}, data) == []


def test_its_label_says_what_is_broken_and_what_is_attacked() -> None:
    label = SMALL.label
    assert (label.family, label.unit, label.symbol) == ("crossing", "chip", "ε")
    assert label.title == "L∞ PGD, on chips with BER 3×10⁻²"


def test_it_takes_the_images_that_its_attack_takes(data: Dataset) -> None:
    tokens = Dataset.from_arrays(torch.zeros(4, 3, dtype=torch.int64), [0, 1, 0, 1])
    with pytest.raises(SpecError, match="holds tokens"):
        SMALL.check(tokens)
    flat = Dataset.from_arrays(torch.zeros(4, 3), [0, 1, 0, 1])
    AttackOnFaultyChip(attack=FGSM(epsilon=0.1)).check(flat)
    with pytest.raises(SpecError, match="wanted images of shape"):
        AttackOnFaultyChip(attack=AutoAttack(epsilon=0.1)).check(flat)
    pixels = Dataset.from_arrays(
        torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int64), task=Segmentation()
    )
    SMALL.check(pixels)
    with pytest.raises(SpecError, match="linf_apgd: wanted a classification by logits"):
        AttackOnFaultyChip(attack=LinfAPGD(epsilon=0.1)).check(pixels)
    assert SMALL.first_images(data) == 120
    assert SMALL.passes(250, layers=2).images == 2 * 3 * 120 * (PGD.passes.images + 1)


def test_pixels_of_an_image_are_counted_with_their_images() -> None:
    images = torch.rand(12, 1, 4, 4, generator=make_generator(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)).eval()
    data = Dataset.from_arrays(images, model(images).argmax(1), task=Segmentation())
    integers = IntegerModel(quantize(model, images))
    found = counts(SMALL, integers, data)
    assert {(one.total, one.images) for trials in found.values() for one in trials} == {(192, 12)}
    assert "miou" in {row.metric for row in SMALL.rows(found)}
