"""Protections of `MemoryFaults`, against campaigns on the same lists and against single words."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import Evaluation, FloatModel, IntegerModel, MemoryFaults, TallyStore
from bitproof.faults import (
    FtClipAct,
    Interleaved,
    Parity,
    Protection,
    RandomFlips,
    Ranger,
    Secded,
    Signatures,
    TripleModular,
    corrupt,
)
from bitproof.faults.bounding import Bounding, restrictions
from bitproof.faults.memory import bounded
from bitproof.faults.table import FaultTable
from bitproof.faults.word_faults import changed_bits
from bitproof.injection.engine import COUNTS, Engine
from bitproof.injection.golden import Golden
from bitproof.metrics import Tally

KEY_BEFORE = "0a75ded798e1edfcadf922e076c7b454884b95947ab10b4f6cf1b5a0830ff187"
"""What revision 958f000, which knew no protections, stored the count of a chip under."""
LISTED: list[tuple[Protection, ...]] = [
    (),
    (Secded(),),
    (Secded(data_bits=32), Parity()),
    (Parity(zero=False),),
    (Signatures(words=4), Secded()),
    (Ranger(),),
    (FtClipAct(percentile=90.0), Parity(sites=("weight",))),
    (Ranger(), Signatures(words=3, bits=4), FtClipAct(percentile=95.0)),
]
BER = 0.08
IMAGES = 60


@pytest.fixture(scope="module")
def profiled(integers: IntegerModel, data: Dataset) -> IntegerModel:
    return IntegerModel(integers.network, data.subset(torch.arange(100, 250)))


def engine_count(
    profiled: IntegerModel, data: Dataset, protections: Sequence[Protection], chip: int
) -> Tally:
    """Return what a campaign counts of the same broken bits, listed; their check bits are whole."""
    network = profiled.network
    generator = make_generator(0, "chip", chip)
    broken = RandomFlips(ber=BER).corrupt_all(network.codes(), generator=generator)
    table: FaultTable = changed_bits(network.codes(), broken)
    for protection in protections:
        table = protection.repair(table, network).table
    assert profiled.profile is not None
    codes = Golden.run(network, profiled.profile.inputs()).codes
    bounds = restrictions(protections, network, codes)
    images = data.first(IMAGES)
    engine = Engine(network, images.inputs(), images.labels, bounds)
    return Tally(int(engine.run(table, [0])[0, COUNTS.index("correct")]), IMAGES)


def whole(protections: Sequence[Protection]) -> tuple[Protection, ...]:
    """Return the same protections, but nothing that they store ever breaks."""

    def without_redundancy(protection: Protection) -> Protection:
        class Whole(type(protection)):  # type: ignore[misc]
            def redundancy(self, network: object) -> dict[str, tuple[Tensor, int]]:  # noqa: ARG002
                return {}

        changed: Protection = Whole.model_validate(protection.model_dump())
        return changed

    return tuple(
        one if isinstance(one, Bounding) else without_redundancy(one) for one in protections
    )


@pytest.mark.parametrize("protections", LISTED, ids=lambda some: "+".join(p.kind for p in some))
def test_chips_count_what_a_campaign_counts_of_the_same_list(
    protections: tuple[Protection, ...], profiled: IntegerModel, data: Dataset
) -> None:
    threat = MemoryFaults(levels=(BER,), images=IMAGES, protections=whole(protections))
    found = [threat.measure(profiled, data, level=BER, trial=chip, seed=0) for chip in range(6)]
    wanted = [engine_count(profiled, data, protections, chip) for chip in range(6)]
    assert [(one.correct, one.total) for one in found] == [
        (one.correct, one.total) for one in wanted
    ]
    assert len({tally.correct for tally in found}) > 1


def test_check_bits_that_break_leave_more_wrong_words(profiled: IntegerModel) -> None:
    """A campaign, which breaks no check bits, sees codes better than they are."""
    clean, fault = profiled.network, RandomFlips(ber=0.03)

    def wrong(protection: Protection) -> int:
        chips = (
            corrupt(
                clean, fault, generator=make_generator(0, "chip", chip), protections=[protection]
            )
            for chip in range(20)
        )
        return sum(
            int((coded.codes != clean.tensors[name].codes).sum())
            for chip in chips
            for name, coded in chip.tensors.items()
        )

    for protection in (Parity(), Secded()):
        assert wrong(protection) > wrong(*whole([protection])) > 0


def test_rare_faults_do_nothing_behind_protections(profiled: IntegerModel, data: Dataset) -> None:
    for protections in ((Secded(),), (TripleModular(),)):
        threat = MemoryFaults(levels=(1e-4,), images=IMAGES, protections=protections)
        clean = profiled.predict(data.first(IMAGES).inputs()).argmax(1)
        right = int((clean == data.labels[:IMAGES]).sum())
        for chip in range(5):
            found = threat.measure(profiled, data, level=1e-4, trial=chip, seed=0)
            assert (found.correct, found.total) == (right, IMAGES)


BOTH = (Secded(), Parity(zero=False))
"""Two codes over the same words."""


def test_a_chip_with_a_word_beyond_repair_answers_nothing_if_it_stops(
    profiled: IntegerModel, data: Dataset
) -> None:
    low = 2e-3
    threat = MemoryFaults(levels=(low,), chips=6, images=IMAGES, protections=(Secded(),))
    chips = [threat.measure(profiled, data, level=low, trial=n, seed=0) for n in range(6)]
    broken = [dict(one.others) for one in chips]
    assert {bool(one["words_detected"]) for one in broken} == {True, False}
    rows = {row.metric: row for row in threat.rows({low: chips})}
    carried = [one.acc for one in chips]
    alive = [acc * (not one["words_detected"]) for acc, one in zip(carried, broken, strict=True)]
    assert rows["acc"].value == pytest.approx(sum(carried) / 6)
    assert rows["acc_stop"].value == pytest.approx(sum(alive) / 6)
    assert rows["acc_stop"].value < rows["acc"].value
    for name in ("corrected", "detected", "silent"):
        mean = sum(one[f"words_{name}"] for one in broken) / 6
        assert (rows[f"words_{name}"].value, rows[f"words_{name}"].unit) == (mean, "word")
    both = MemoryFaults(levels=(low,), chips=6, images=IMAGES, protections=BOTH)
    met = [both.measure(profiled, data, level=low, trial=n, seed=0) for n in range(6)]
    metrics = {row.metric for row in both.rows({low: met})}
    assert "acc_stop" in metrics
    assert not [
        name for name in metrics if name.startswith("words_")
    ]  # each word would count twice
    old = [Tally(one.correct, one.total) for one in chips]  # from before words were counted
    assert {row.metric for row in threat.rows({low: old})}.isdisjoint({"acc_stop"})


def test_without_protections_chips_and_keys_are_what_they_were(
    profiled: IntegerModel, data: Dataset
) -> None:
    threat = MemoryFaults(levels=(BER,), chips=2, images=IMAGES)
    assert "protections" not in threat.identity(data)
    assert threat.identity(data) == {
        "kind": "memory_faults",
        "fault": {"kind": "random_flips", "ber": 0.01},
        "sites": ["weight", "bias"],
        "images": IMAGES,
    }
    broken = corrupt(profiled.network, RandomFlips(ber=BER), generator=make_generator(0, "chip", 1))
    images = data.first(IMAGES)
    right = int((broken(images.inputs()).argmax(1) == images.labels).sum())
    assert threat.measure(profiled, data, level=BER, trial=1, seed=0) == Tally(right, IMAGES)


def test_counts_from_before_there_were_protections_are_found() -> None:
    plain = Evaluation(threats=(MemoryFaults(levels=(0.02,), chips=1, images=60),))
    (key,) = plain.keys("0" * 64, Dataset.from_arrays(torch.zeros(2, 1, 1, 1), [0, 1])).values()
    assert key == KEY_BEFORE


def test_protections_count_in_the_key_and_in_the_name(data: Dataset) -> None:
    threats = [
        MemoryFaults(levels=(BER,), protections=protections)
        for protections in ((), (Secded(),), (Secded(data_bits=32),), (Secded(), Ranger()))
    ]
    assert len({str(threat.identity(data)) for threat in threats}) == 4
    assert [threat.title for threat in threats] == [
        "random_flips",
        "random_flips_secded",
        "random_flips_secded",
        "random_flips_secded_ranger",
    ]
    assert threats[-1].label.title == "Random bit flips + secded + ranger"
    assert threats[0].label == replace(RandomFlips(ber=BER).label, unit="chip")
    assert threats[1].model_copy(update={"name": "ecc"}).title == "ecc"
    interleaved = MemoryFaults(
        fault=Interleaved(fault=RandomFlips(ber=0.1)), protections=(Parity(),)
    )
    assert interleaved.title == "interleaved_parity"
    with pytest.raises(ValidationError, match="wanted a 'name' for each"):
        Evaluation(threats=(threats[1], threats[2]))


def test_tables_build_protections(data: Dataset) -> None:
    table = {"kind": "memory_faults", "protections": [{"kind": "secded"}, "ranger"]}
    assert MemoryFaults.model_validate(table).protections == (Secded(), Ranger())
    with pytest.raises(ValidationError, match="ecc"):
        MemoryFaults.model_validate({"protections": [{"kind": "secded", "ecc": 1}]})


def test_an_evaluation_measures_protected_memories(profiled: IntegerModel, data: Dataset) -> None:
    threats = tuple(
        MemoryFaults(levels=(BER,), chips=5, images=IMAGES, protections=protections)
        for protections in ((), (TripleModular(),), (FtClipAct(percentile=99.0),))
    )
    evaluation, store = Evaluation(threats=threats), TallyStore()
    with evaluation.open({"v": profiled}.__getitem__, data) as pool:
        keys = evaluation.keys(profiled.digest(), data)
        evaluation.measure("v", keys, pool=pool, store=store)
    counts = evaluation.counts(keys, store)
    assert counts is not None
    rows = {
        (row.threat, row.level): row.value
        for row in evaluation.rows("v", counts)
        if row.metric == "acc"
    }
    assert rows["random_flips_triple_modular", BER] > rows["random_flips", BER]
    assert ("random_flips_ft_clip_act", BER) in rows


@pytest.mark.parametrize("sites", [("activation",), ("weight", "activation")])
def test_bounds_hold_faults_of_activations(
    sites: tuple[Any, ...], profiled: IntegerModel, data: Dataset
) -> None:
    def right(protections: tuple[Protection, ...]) -> int:
        threat = MemoryFaults(levels=(BER,), images=200, sites=sites, protections=protections)
        chips = (threat.measure(profiled, data, level=BER, trial=c, seed=0) for c in range(8))
        return sum(chip.correct for chip in chips)

    none, clipped = right(()), right((FtClipAct(percentile=99.0),))
    assert clipped != none
    with pytest.raises(ValidationError, match="without site 'activation'"):
        MemoryFaults(sites=sites, protections=(TripleModular(),))


def test_bounded_words_are_those_of_the_engine(profiled: IntegerModel, data: Dataset) -> None:
    assert profiled.profile is not None
    codes = Golden.run(profiled.network, profiled.profile.inputs()).codes
    protections = (FtClipAct(percentile=60.0), Ranger())
    bounds = restrictions(protections, profiled.network, codes)
    inputs = data.inputs(slice(0, 40))
    golden = Golden.run(profiled.network, inputs, bounds)
    assert torch.equal(bounded(profiled.network, bounds)(inputs), golden.logits)
    assert not torch.equal(golden.logits, profiled.network(inputs))
    no_faults = profiled.broken(
        RandomFlips(ber=0.0),
        sites=("weight",),
        generator=make_generator(0),
        protections=protections,
    )
    assert torch.equal(no_faults(inputs), golden.logits)


def test_bounds_are_taken_once_and_from_training_images_alone(
    integers: IntegerModel, profiled: IntegerModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Tensor] = []
    fresh = IntegerModel(integers.network, profiled.profile)

    def noted(self: FtClipAct, codes: Tensor, grid: Any) -> Any:
        taken.append(codes)
        return Ranger().bound(codes, grid)

    monkeypatch.setattr(FtClipAct, "bound", noted)
    threat = MemoryFaults(levels=(BER,), images=20, protections=(FtClipAct(),))
    for chip in range(3):
        threat.measure(fresh, data, level=BER, trial=chip, seed=0)
    assert [len(codes) for codes in taken] == [150]
    with pytest.raises(SpecError, match="ft_clip_act: wanted training images"):
        threat.measure(integers, data, level=BER, trial=0, seed=0)


def test_float_words_have_check_bits_but_no_bounds(floats: FloatModel, data: Dataset) -> None:
    def right(protections: tuple[Protection, ...]) -> int:
        threat = MemoryFaults(levels=(2e-3,), images=100, protections=protections)
        chips = (threat.measure(floats, data, level=2e-3, trial=c, seed=0) for c in range(6))
        return sum(chip.correct for chip in chips)

    assert right((Secded(),)) > right(())
    assert right((Parity(),)) > right(())
    with pytest.raises(SpecError, match="ranger: wanted an integer network"):
        right((Ranger(),))
