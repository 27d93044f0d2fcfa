from dataclasses import replace

import pytest

from bitproof.reproduce.cells import cells_of
from bitproof.reproduce.claims import MATRIX_CLAIMS, Claim, Side, claim_lines
from bitproof.reproduce.jobs import Job, read_jobs, recipes_folder
from bitproof.reproduce.result import CellResult
from bitproof.reproduce.tables import find_table
from bitproof.stats.intervals import Interval

HIGHER = Claim("P", "x", Side("a", "clean"), Side("b", "clean"))


@pytest.fixture(scope="module")
def job() -> Job:
    (only,) = read_jobs(find_table("matrix"), "small")
    return only


def result(job: Job, variant: str, threat: str, metric: str, value: float) -> CellResult:
    """Return a finished cell at the level of the gains, two points wide on either side."""
    wanted = (
        cell
        for cell in cells_of(job)
        if (cell.variant, cell.threat, cell.metric) == (variant, threat, metric)
        and cell.level in {0.0, 1.0, 1e-3, 1 / 255}
    )
    cell = next(wanted)
    return CellResult.model_construct(
        **cell.__dict__, cell=cell.name, value=value, ci_low=value - 0.02, ci_high=value + 0.02
    )


@pytest.mark.parametrize(
    ("claim", "ends", "verdict"),
    [
        (HIGHER, (0.01, 0.02, 0.03), "holds"),
        (HIGHER, (-0.01, 0.02, 0.03), "undecided"),
        (HIGHER, (-0.03, -0.02, -0.01), "fails"),
        (replace(HIGHER, wanted="lower"), (-0.03, -0.02, -0.01), "holds"),
        (replace(HIGHER, wanted="lower"), (0.01, 0.02, 0.03), "fails"),
        (replace(HIGHER, slack=0.02), (-0.015, -0.01, 0.0), "holds"),
        (replace(HIGHER, slack=0.02), (-0.05, -0.04, -0.03), "fails"),
    ],
)
def test_the_interval_decides(claim: Claim, ends: tuple[float, ...], verdict: str) -> None:
    assert claim.verdict(Interval(*ends)) == verdict


def test_every_claim_is_about_cells_of_the_small_matrix(job: Job) -> None:
    known = {(cell.variant, cell.threat, cell.metric) for cell in cells_of(job)}
    for claim in MATRIX_CLAIMS:
        for side in (claim.side, claim.other):
            assert (side.variant, side.threat, side.metric) in known, claim.text
    assert {claim.paper for claim in MATRIX_CLAIMS} == {
        *("RESQ", "RandBET", "Scaling factors", "AdAM", "HAWX")
    }


def test_gains_are_paired_and_other_differences_are_not(job: Job) -> None:
    lines = list(claim_lines(job, []))
    assert len(lines) == len(MATRIX_CLAIMS)
    assert all(line.endswith("not measured") for line in lines)
    cells = [
        result(job, "s1", "linf_apgd", "gain", 0.5),
        result(job, "at", "random_flips", "acc", 0.6),
        result(job, "vanilla", "random_flips", "acc", 0.7),
    ]
    told = {line.split(": ")[1]: line for line in claim_lines(job, cells)}
    paired = told["hardening against attacks (s1) raises attack resilience"]
    assert paired.endswith("holds (+50.0 points, +48.0 to +52.0, ε 1/255, paired)")
    half = 100 * (2 * 0.02**2) ** 0.5
    apart = told["adversarial training costs resilience against bit errors in weights"]
    ends = f"-10.0 points, {-10 - half:+.1f} to {-10 + half:+.1f}, BER 1e-3, unpaired"
    assert apart.endswith(f"holds ({ends})")


def test_the_small_recipe_is_the_one_that_people_run() -> None:
    shipped = recipes_folder().parent / "matrix-resnet20-cifar10.toml"
    job = recipes_folder() / "small" / "matrix" / "resnet20-cifar10.toml"
    named = shipped.read_text().replace('name = "matrix-resnet20', 'name = "resnet20', 1)
    assert named == job.read_text()
