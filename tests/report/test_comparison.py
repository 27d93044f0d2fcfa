"""Results side by side: which numbers meet, and how their differences are taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bitproof.core.errors import DataError
from bitproof.core.flags import pack_flags
from bitproof.core.json_lines import JsonLines
from bitproof.report.campaign_summary import read_summary
from bitproof.report.compared_campaigns import ComparedCampaign
from bitproof.report.comparison import Comparison, Difference, compare, flat_comparison
from bitproof.report.comparison_table import (
    comparison_figure,
    comparison_notes,
    comparison_table,
    comparison_title,
)
from bitproof.stats import Row, difference, mean_interval, wilson
from bitproof.stats.intervals import tango

Make = Callable[..., Path]
CHIPS = 8
IMAGES = 200
CLEAN = "[[evaluation.threats]]\nkind = 'clean'\n"
FLIPS = (
    "[[evaluation.threats]]\nkind = 'memory_faults'\nlevels = [0.01]\nchips = 8\nimages = 200\n"
    "fault = {{ kind = 'random_flips', ber = 0.01 }}\nprotections = {}\n"
)
LABELS = {
    "random_flips": {"family": "memory_fault", "title": "Random bit flips", "symbol": "BER"}
    | {"notation": "scientific"}
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes a run of counts by variant, eight chips each."""

    def write(
        name: str,
        counts: dict[str, list[int]],
        *,
        seed: int = 0,
        threat: str = "random_flips",
        protections: str = "[]",
        images: str | None = "aa",
        **facts: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = []
        log = JsonLines(folder / "tallies.jsonl")
        for variant, found in counts.items():
            acc = wilson(found[0] + 5, IMAGES)
            rows.append(Row(variant, "clean", 0.0, "acc", acc.value, acc.low, acc.high, IMAGES))
            mean = mean_interval([n / IMAGES for n in found])
            rows.append(Row(variant, threat, 0.01, "acc", mean.value, mean.low, mean.high, CHIPS))
            for trial, n in enumerate(found):
                names = {"variant": variant, "threat": threat, "level": 0.01, "trial": trial}
                log.append({**names, "key": f"{variant}{trial}", "correct": n, "total": IMAGES})
        (folder / "results.csv").write_text(table(rows))
        told = {
            "schema": 1,
            "variants": list(counts),
            "threats": {"clean": {"family": "none"}, threat: LABELS["random_flips"]},
            "fingerprint": {"data.test": images},
            **facts,
        }
        (folder / "run.json").write_text(json.dumps(told))
        recipe = f"evaluation.seed = {seed}\n" + CLEAN + FLIPS.format(protections)
        (folder / "recipe.toml").write_text(recipe)
        return folder

    return write


def table(rows: list[Row]) -> str:
    head = "variant,threat,level,metric,value,ci_low,ci_high,n,unit\n"
    return head + "".join(
        f"{r.variant},{r.threat},{r.level},{r.metric},{r.value},{r.ci_low},{r.ci_high},{r.n},fraction\n"
        for r in rows
    )


ONE = [150, 120, 170, 140, 160, 110, 155, 130]
TWO = [160, 131, 179, 152, 169, 121, 167, 140]


def change_of(found: Comparison, threat: str) -> Difference:
    row = next(row for row in found.rows if row.key.threat == threat)
    change = row.differences[0]
    assert change is not None
    return change


def test_shared_chips_are_paired_as_student_does(make: Make) -> None:
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO})])
    change = change_of(found, "random_flips")
    assert change.how == "paired by 8 chips"
    assert change.interval is not None
    gaps = [(b - a) / IMAGES for a, b in zip(ONE, TWO, strict=True)]
    wanted = stats.ttest_1samp(gaps, 0).confidence_interval()
    assert change.value == pytest.approx(sum(gaps) / CHIPS)
    assert change.interval[::2] == pytest.approx(tuple(wanted))
    apart = difference(*(mean_interval([n / IMAGES for n in c]) for c in (TWO, ONE)))
    assert apart.low < 0 < change.interval.low  # only pairs tell


def test_other_seeds_have_other_chips(make: Make) -> None:
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO}, seed=1)])
    change = change_of(found, "random_flips")
    assert change.how == "unpaired"
    first, second = (mean_interval([n / IMAGES for n in c]) for c in (ONE, TWO))
    assert change.interval == pytest.approx(difference(second, first), abs=1e-6)


def test_counts_alone_are_taken_as_independent_and_said_so(make: Make) -> None:
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO})])
    change = change_of(found, "clean")
    assert change.how == "unpaired"
    assert change.interval == pytest.approx(difference(wilson(165, 200), wilson(155, 200)))
    assert comparison_notes(found)[0].startswith("1 difference paired by what both met, 1 unpaired")


@pytest.mark.parametrize(("images", "how"), [("aa", "paired by 200 images"), ("", "unpaired")])
def test_clean_accuracy_is_paired_where_both_runs_tell_which_images_were_right(
    make: Make, images: str, how: str
) -> None:
    right = {"a": [1] * 155 + [0] * 45, "b": [1] * 165 + [0] * 35}
    places = [make(name, {"base": ONE}, images=images or None) for name in right]
    table_of_b = (places[1] / "results.csv").read_text()
    acc = wilson(165, IMAGES)
    clean = table([Row("base", "clean", 0.0, "acc", *(acc[1], acc[0], acc[2]), IMAGES)])
    chips = next(line for line in table_of_b.splitlines() if "random_flips" in line)
    (places[1] / "results.csv").write_text(f"{clean}{chips}\n")
    for place in places:
        own = right[place.name]
        names = {"variant": "base", "threat": "clean", "level": 0.0, "trial": 0, "key": "clean"}
        told = {"correct": sum(own), "total": IMAGES, "right": pack_flags(bytes(own))}
        JsonLines(place / "tallies.jsonl").append({**names, **told})
    change = change_of(compare(places), "clean")
    assert change.how == how
    wanted = tango(10, 0, 200) if images else difference(acc, wilson(155, 200))
    assert change.interval == pytest.approx(wanted, abs=1e-6)


def test_with_and_without_secded_meet_under_one_name(make: Make) -> None:
    secded = {"threat": "random_flips_secded", "protections": "[{ kind = 'secded' }]"}
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO}, **secded)])
    assert change_of(found, "random_flips").paired
    assert "random_flips: behind secded in b, nothing in a" in comparison_notes(found)
    assert not compare([make("c", {"base": ONE}), make("d", {"base": TWO})]).notes


def test_means_over_other_levels_have_no_difference(make: Make) -> None:
    first, second = make("a", {"base": ONE}), make("b", {"base": TWO})
    for folder in (first, second):
        with (folder / "results.csv").open("a") as file:
            file.write("base,random_flips,,auc_fr,0.5,0.4,0.6,8,fraction\n")
    assert change_of(compare([first, second]), "random_flips").interval is not None
    recipe = second / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("levels = [0.01]", "levels = [0.001, 0.01]"))
    found = compare([first, second])
    row = next(row for row in found.rows if row.key.metric == "auc_fr")
    assert row.differences[0] is not None
    assert row.differences[0].interval is None
    assert any(note.endswith("a mean over other levels, so no difference") for note in found.notes)
    assert change_of(found, "random_flips").paired  # at the level that both have


def test_campaigns_of_other_confidence_have_no_difference(make_campaign: Make) -> None:
    told = read_summary(make_campaign())
    sides = []
    for confidence in (0.95, 0.99):
        campaign = told.campaign.model_copy(update={"confidence": confidence})
        own = told.model_copy(update={"campaign": campaign})
        sides.append(ComparedCampaign(f"{confidence}", Path(), own, {}))
    key = next(iter(sides[0].cells()))
    assert sides[1].against(sides[0], key) == (
        None,
        "intervals of 99 % against 95 %, so no differences",
    )
    assert comparison_title(Comparison("a campaign", (), ())) == "per cent (95 % interval)"
    mixed = Comparison("a campaign", (), (), confidence=None)
    assert "95" not in comparison_title(mixed)


def test_networks_of_one_run_and_named_ones_stand_side_by_side(make: Make) -> None:
    run = make("a", {"float": ONE, "int8": TWO, "s1": ONE})
    assert compare([run]).places == ("float", "int8", "s1")
    other = make("b", {"float": ONE, "mine": ONE})
    found = compare([run / "networks" / "int8", run / "networks" / "s1", other])
    assert found.places == ("int8", "s1", "b")
    assert [change.paired for change in found.rows[1].differences if change] == [True, True]
    with pytest.raises(DataError, match=r"this run has float, int8, s1; name one, such as"):
        compare([other / "networks" / "mine", run])
    with pytest.raises(DataError, match="Did you mean 'int8'"):
        compare([run / "networks" / "int9", other])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": "bb"}, "b against a: other test images, so no differences"),
        ({"task": {"kind": "binary"}}, "b against a: another task, so no differences"),
    ],
)
def test_what_is_not_comparable_is_labelled(make: Make, changes: Any, told: str) -> None:
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO}, **changes)])
    assert told in comparison_notes(found)
    assert all(row[-1] == "not comparable" for row in comparison_table(found)[1:])


def test_other_settings_of_an_attack_are_labelled(make: Make) -> None:
    first, second = make("a", {"base": ONE}), make("b", {"base": TWO})
    recipe = second / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("images = 200", "images = 100"))
    found = compare([first, second])
    note = "b against a: random_flips: other settings (images), so no differences"
    assert note in comparison_notes(found)


def test_what_is_wrong_is_told(make: Make, make_campaign: Make, tmp_path: Path) -> None:
    run = make("a", {"base": ONE})
    for places, told in (
        ([run], "wanted two places or more"),
        ([run, run], "each place once"),
        ([run, tmp_path / "nowhere"], "nowhere: wanted the directory of a run"),
    ):
        with pytest.raises(DataError, match=told):
            compare(places)
    other = make("b", {"hard": ONE, "harder": TWO})
    with pytest.raises(DataError, match="share no number"):
        compare([make("c", {"base": ONE, "more": TWO}), other])


def test_tables_csv_and_figure_have_the_same_numbers(make: Make) -> None:
    found = compare([make("a", {"base": ONE}), make("b", {"base": TWO})])
    header, *rows = comparison_table(found)
    assert header == ["measured", "a", "b", "b - a, points"]
    assert rows[1][-1].startswith("+5.2 (4.8 to 5.7)")
    assert rows[1][-1].endswith("8 chips")
    flat = list(flat_comparison(found))
    assert [row["place"] for row in flat] == ["a", "b"] * 2
    drawn = json.loads(comparison_figure(found).spec)["data"]["values"]
    assert [row["value"] for row in drawn] == [pytest.approx(100 * r["value"]) for r in flat]
