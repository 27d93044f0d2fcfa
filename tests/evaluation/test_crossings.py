"""Evaluations with threats at once: who measures, and what interrupts, changes no row."""

from pathlib import Path

import pytest

from bitproof.approx import SignMagnitude, Truncated
from bitproof.attacks import LinfAPGD, LinfPGD
from bitproof.core.json_lines import JsonLines
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialExamples,
    AttackOnFaultyChip,
    Clean,
    Evaluation,
    Executor,
    InProcess,
    IntegerModel,
    MemoryFaults,
    OnMultiplier,
    Processes,
    TallyStore,
)
from bitproof.faults import RandomFlips
from bitproof.faults.systolic import SystolicArray
from bitproof.injection import RegisterFaults
from bitproof.report.tallies import read_tallies
from bitproof.stats import Row

COARSE = SignMagnitude(of=Truncated(columns=11))
ON_CHIP = AttackOnFaultyChip(
    fault=RandomFlips(ber=0.02),
    attack=LinfPGD(epsilon=0.1, steps=2),
    levels=(0.05, 0.1),
    chips=2,
    images=30,
)
ALL = Evaluation(
    threats=(
        Clean(images=60),
        AdversarialExamples(
            attack=LinfAPGD(epsilon=0.1, steps=5, losses=("cross_entropy", "dlr")),
            levels=(0.05,),
            images=60,
        ),
        ON_CHIP,
        OnMultiplier(multiplier=COARSE),
        OnMultiplier(
            multiplier=COARSE, threat=MemoryFaults(levels=(1e-2, 1e-1), chips=2, images=60)
        ),
        OnMultiplier(name="three_at_once", multiplier=COARSE, threat=ON_CHIP),
        RegisterFaults(trials=6, images=20, array=SystolicArray(rows=2, columns=2)),
        RegisterFaults(
            faults="permanent", trials=6, images=20, array=SystolicArray(rows=2, columns=2)
        ),
    )
)


class Interruption(Exception):  # noqa: N818 (what happens, not what is wrong)
    """Stands for Ctrl-C."""


class Fragile(TallyStore):
    """Breaks off after some measurements."""

    def __init__(self, path: Path, lives: int) -> None:
        super().__init__(path)
        self.lives = lives

    def add(self, *args: object, **names: object) -> None:
        if self.lives == 0:
            raise Interruption
        self.lives -= 1
        super().add(*args, **names)  # type: ignore[arg-type]


def rows(integers: IntegerModel, data: Dataset, executor: Executor, store: TallyStore) -> list[Row]:
    keys = ALL.keys(integers.digest(), data)
    assert len({*keys.values()}) == len(keys)
    with ALL.open({"v": integers}.__getitem__, data, executor) as pool:
        ALL.measure("v", keys, pool=pool, store=store)
    counts = ALL.counts(keys, store)
    assert counts is not None
    assert ALL.warnings("v", counts, data) == []
    return ALL.rows("v", counts)


def test_interruptions_change_no_row(integers: IntegerModel, data: Dataset, tmp_path: Path) -> None:
    whole = rows(integers, data, InProcess(), TallyStore())
    assert [*dict.fromkeys(row.threat for row in whole)] == [one.title for one in ALL.threats]
    path = tmp_path / "tallies.jsonl"
    for lives in (4, 9):
        with pytest.raises(Interruption):
            rows(integers, data, InProcess(), Fragile(path, lives))
    begun_again = IntegerModel(integers.network.to("cpu"), data_dir=tmp_path)
    assert rows(begun_again, data, InProcess(), TallyStore(path)) == whole


def test_seconds_stand_with_each_count(
    integers: IntegerModel, data: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "tallies.jsonl"
    rows(integers, data, InProcess(), TallyStore(path))
    found = read_tallies(path)
    assert len(found) == len(ALL.keys(integers.digest(), data))
    assert {one.threat for one in found if one.seconds} == {one.title for one in ALL.threats}
    told = sum(line["seconds"] for line in JsonLines(path).read(lambda entry: entry))
    assert told == pytest.approx(sum(one.seconds for one in found))


@pytest.mark.slow
def test_processes_measure_the_same_rows(integers: IntegerModel, data: Dataset) -> None:
    one, two = (
        rows(integers, data, executor, TallyStore())
        for executor in (InProcess(), Processes(workers=2))
    )
    assert one == two
