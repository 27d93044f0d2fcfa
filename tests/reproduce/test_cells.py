from collections.abc import Callable

import pytest

from bitproof.core.errors import RecipeError
from bitproof.reproduce import Cell, Job, cells_of


def test_cells_are_accuracies_and_gains_over_the_baseline(job: Job) -> None:
    assert [cell.name.removeprefix("tiny-digits.") for cell in cells_of(job)] == [
        "float.clean.acc",
        "float.random_flips-0.01.acc",
        "float.random_flips.auc_fr",
        "float.linf_pgd-0.05.acc",
        "baseline.clean.acc",
        "baseline.random_flips-0.01.acc",
        "baseline.random_flips.auc_fr",
        "baseline.linf_pgd-0.05.acc",
        *(
            f"{variant}.{rest}"
            for variant in ("s1", "s2")
            for rest in (
                "clean.acc",
                "random_flips-0.01.acc",
                "random_flips.auc_fr",
                "linf_pgd-0.05.acc",
                "clean.gain",
                "random_flips-0.01.gain",
                "linf_pgd-0.05.gain",
            )
        ),
    ]


def test_a_cell_knows_its_job() -> None:
    cell = Cell("t", "resnet20", "cifar10", "s1+s2", "linf_pgd", 1 / 255, "acc")
    assert cell.job == "resnet20-cifar10"
    assert cell.name == "resnet20-cifar10.s1+s2.linf_pgd-0.00392157.acc"


def test_levels_that_would_share_a_name_are_refused(change: Callable[..., Job]) -> None:
    job = change("levels = [1e-2]", "levels = [1e-2, 1.00000001e-2]")
    with pytest.raises(RecipeError, match="differ in six digits"):
        cells_of(job)
