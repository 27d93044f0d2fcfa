"""Chosen bit errors as a threat: which images, which trials, and what is told of them."""

import pytest
import torch
from pydantic import ValidationError

from bitproof.core.errors import DataError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialBitErrors,
    Clean,
    Evaluation,
    FloatModel,
    IntegerModel,
    TallyStore,
)
from bitproof.evaluation.threat import count
from bitproof.faults import BitAscent, ProgressiveBitSearch, TargetedBitSearch, with_flips
from bitproof.metrics import Tally

THREAT = AdversarialBitErrors(levels=(1, 4), batches=2, attack_images=30, images=None)


def test_attacker_and_evaluation_share_no_image(data: Dataset) -> None:
    numbered = Dataset(data.name, data.images, torch.arange(250), 250)
    first, second = (THREAT.batch(numbered, number).labels.tolist() for number in (0, 1))
    assert first == list(range(220, 250))
    assert second == list(range(190, 220))
    assert THREAT.classified(numbered).labels.tolist() == list(range(190))
    few = THREAT.model_copy(update={"images": 50})
    assert few.classified(numbered).labels.tolist() == list(range(50))
    many = THREAT.model_copy(update={"images": 5000})
    assert len(many.classified(numbered)) == 190


def test_every_batch_is_a_trial_at_every_level(data: Dataset) -> None:
    assert THREAT.tasks(data) == [(1.0, 0), (1.0, 1), (4.0, 0), (4.0, 1)]


def test_too_few_images_are_told_before_anything_runs(data: Dataset) -> None:
    threat = AdversarialBitErrors(batches=5, attack_images=50)
    with pytest.raises(DataError, match=r"wanted more than 250 test images .*, got 250"):
        threat.tasks(data)


def test_count_is_that_of_the_network_with_the_flips(data: Dataset, integers: IntegerModel) -> None:
    found = THREAT.measure(integers, data, level=4.0, trial=1, seed=0)
    batch = data.subset(range(190, 220))
    flips = ProgressiveBitSearch(n_flips=4).choose_bits(
        integers.network, batch.inputs(), batch.labels, generator=make_generator(0)
    )
    broken = with_flips(integers.network, flips)
    assert found == count(broken, data.first(190))
    clean = count(integers.predict, data.first(190))
    assert found.total == 190
    assert found.correct < clean.correct


def test_a_count_depends_on_no_other_level(data: Dataset, integers: IntegerModel) -> None:
    alone = AdversarialBitErrors(levels=(1,), batches=2, attack_images=30, images=None)
    measured = [
        one.measure(IntegerModel(integers.network.to("cpu")), data, level=1.0, trial=0, seed=0)
        for one in (alone, THREAT)
    ]
    assert measured[0] == measured[1]


@pytest.mark.parametrize("attack", [BitAscent(iterations=4), TargetedBitSearch(target=1, source=0)])
def test_any_attack_is_measured_the_same_twice(
    attack: BitAscent | TargetedBitSearch, data: Dataset, integers: IntegerModel
) -> None:
    threat = AdversarialBitErrors(attack=attack, levels=(3,), batches=1, attack_images=30)
    again = [
        threat.measure(IntegerModel(integers.network.to("cpu")), data, level=3.0, trial=0, seed=5)
        for _ in range(2)
    ]
    assert again[0] == again[1]
    assert threat.title == attack.kind


def test_float_models_are_left_out_with_a_warning(data: Dataset, floats: FloatModel) -> None:
    assert THREAT.measure(floats, data, level=1.0, trial=0, seed=0) == Tally(0, 0)
    counts = {level: [Tally(0, 0)] * 2 for level in THREAT.levels}
    assert THREAT.rows(counts) == []
    assert THREAT.warnings(counts, {}, data) == [
        "progressive_bit_search is not measured: it flips bits of integer words"
    ]


def test_rows_tell_mean_and_worst_batch(data: Dataset) -> None:
    counts = {1.0: [Tally(9, 10), Tally(7, 10)], 4.0: [Tally(2, 10), Tally(4, 10)]}
    rows = {(row.level, row.metric): row.value for row in THREAT.rows(counts)}
    assert rows[1.0, "acc"] == pytest.approx(0.8)
    assert rows[1.0, "acc_min"] == pytest.approx(0.7)
    assert rows[4.0, "acc"] == pytest.approx(0.3)
    assert rows[4.0, "acc_min"] == pytest.approx(0.2)
    assert THREAT.warnings(counts, {}, data) == []
    swapped = {1.0: counts[4.0], 4.0: counts[1.0]}
    assert "accuracy rises with flips" in THREAT.warnings(swapped, {}, data)[0]


@pytest.mark.parametrize("levels", [(1.5,), (4, 2), (0,)])
def test_levels_are_rising_whole_numbers(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        AdversarialBitErrors(levels=levels)


def test_an_evaluation_holds_it_beside_others(
    data: Dataset, integers: IntegerModel, floats: FloatModel, tmp_path: object
) -> None:
    evaluation = Evaluation(threats=(Clean(), THREAT))
    assert Evaluation.model_validate(evaluation.model_dump(mode="json")) == evaluation
    for name, model in (("integers", integers), ("floats", floats)):
        store = TallyStore(None)
        keys = evaluation.keys(model.digest(), data)
        models = {name: model}
        with evaluation.open(models.__getitem__, data) as pool:
            evaluation.measure(name, keys, pool=pool, store=store)
        counts = evaluation.counts(keys, store)
        assert counts is not None
        threats = {row.threat for row in evaluation.rows(name, counts)}
        expected = {"clean", "progressive_bit_search"} if name == "integers" else {"clean"}
        assert threats == expected


def test_identity_ignores_levels_and_name(data: Dataset) -> None:
    other = THREAT.model_copy(update={"levels": (2.0,), "name": "bfa"})
    assert other.identity(data) == THREAT.identity(data)
    more = AdversarialBitErrors(attack=ProgressiveBitSearch(top_k=3), batches=1, attack_images=30)
    assert more.identity(data) != THREAT.identity(data)
