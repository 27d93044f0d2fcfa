from collections.abc import Callable
from pathlib import Path

import pytest

from bitproof.report.headline import headline
from bitproof.report.run import read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]


def rows_with(full: float, half: float | None) -> list[Row]:
    """Return a baseline of 50 % everywhere, and a full pipeline at `full`."""
    return [
        Row(variant, threat, level, "acc", value, low, high, 100)
        for variant, value in (("none", 0.5), ("s1", full))
        for low, high in [(None, None) if half is None else (value - half, value + half)]
        for threat, level in (("none", 0.0), ("random_flips", 1e-3), ("linf_pgd", 0.1))
    ]


@pytest.mark.parametrize(
    ("full", "half", "wanted"),
    [
        (0.7, 0.01, "rises by 20.0 points"),
        (0.4, 0.01, "falls by 10.0 points"),
        (0.52, 0.05, "shows no clear change"),
        (0.7, None, "rises by 20.0 points (interval not recorded)"),
    ],
)
def test_the_sentence_claims_no_more_than_the_interval(
    full: float, half: float | None, wanted: str, make_run: MakeRun
) -> None:
    run = read_run(make_run(rows=rows_with(full, half), variants=["none", "s1"]))
    found = headline(run)
    assert found.sentence.count(wanted) == 3
    assert "under random bit flips at BER = 10⁻³" in found.sentence
    assert "under L∞ PGD at ε = 0.1" in found.sentence
    assert found.sentence.endswith("on clean inputs.")
    assert [tile.change.value for tile in found.tiles] == pytest.approx([full - 0.5] * 3)


def test_an_unfinished_pipeline_gives_no_numbers(make_run: MakeRun) -> None:
    folder = make_run(variants=["none", "s1"], facts={"variants": ["none", "s1", "s1+s2"]})
    found = headline(read_run(folder))
    assert found.tiles == ()
    assert found.sentence == "No comparison yet: “s1+s2” has no results so far."


def test_a_run_without_hardening_says_so(make_run: MakeRun) -> None:
    assert "no hardened network" in headline(read_run(make_run(variants=["none"]))).sentence


def test_results_that_share_no_level_are_not_compared(make_run: MakeRun) -> None:
    rows = [
        Row("none", "random_flips", 1e-3, "acc", 0.5, 0.4, 0.6),
        Row("s1", "random_flips", 1e-2, "acc", 0.5, 0.4, 0.6),
    ]
    found = headline(read_run(make_run(rows=rows, variants=["none", "s1"])))
    assert found.tiles == ()
    assert "share no measurement" in found.sentence


def on_multipliers(variants: list[str], **stages: dict[str, object]) -> dict[str, object]:
    """Return facts of a run with two hardening stages, and one multiplier."""
    kinds = {"s1": "desensitize", "s2": "fault_aware", "mul8s_1KVL": "approximate"}
    told = {name: {"kind": kind} for name, kind in kinds.items()} | stages
    return {"variants": variants, "multipliers": {"mul8s_1KVL": {}}, "stages": told}


def test_networks_hardened_on_a_multiplier_are_named(make_run: MakeRun) -> None:
    facts = on_multipliers(["none", "mul8s_1KVL", "s1+s2+mul8s_1KVL"])
    found = headline(read_run(make_run(rows=[], variants=[], facts=facts)))
    assert found.sentence == (
        "This run holds no hardened network with exact products; “s1+s2+mul8s_1KVL” is hardened, "
        "but on a multiplier (see the section “Approximate multipliers”)."
    )
    assert found.tiles == ()


def test_without_a_multiplier_in_the_file_no_section_is_pointed_to(make_run: MakeRun) -> None:
    facts = on_multipliers(["none", "s1+mix"], mix={"kind": "approximate"}) | {"multipliers": {}}
    found = headline(read_run(make_run(rows=[], variants=[], facts=facts)))
    assert found.sentence.endswith("“s1+mix” is hardened, but on a multiplier.")


def test_of_many_networks_hardened_on_multipliers_a_few_are_named(make_run: MakeRun) -> None:
    tuned = {f"t{i}": {"kind": "approximation_aware", "ber": 1e-3} for i in range(9)}
    facts = on_multipliers(["none", *(f"mul8s_1KVL+{name}" for name in tuned)], **tuned)
    sentence = headline(read_run(make_run(rows=[], variants=[], facts=facts))).sentence
    assert "“mul8s_1KVL+t5” and 3 more are hardened, but on multipliers" in sentence
    assert "t6" not in sentence


def test_a_hardened_network_with_exact_products_is_compared(make_run: MakeRun) -> None:
    facts = on_multipliers(["none", "s1", "s1+s2+mul8s_1KVL"])
    found = headline(read_run(make_run(rows=rows_with(0.7, 0.01), variants=[], facts=facts)))
    assert "the full pipeline (“s1”) rises by 20.0 points" in found.sentence
