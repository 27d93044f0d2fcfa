import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError
from bitproof.report import write_campaign_report
from bitproof.report.campaign_charts import LIMITS, RANGES, campaign_figures, range_of
from bitproof.report.campaign_page import headline, leveugle
from bitproof.report.campaign_summary import read_summary
from bitproof.report.wording import grouped, span, value
from bitproof.stats.intervals import wilson

MakeCampaign = Callable[..., Path]
MakeSummary = Callable[..., dict[str, Any]]
NASTY = "<script>alert(1)</script>"
CDATA = "]]>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"


Look = Callable[[Path], Any]


def test_the_page_tells_all_there_is_to_tell(make_campaign: MakeCampaign, look: Look) -> None:
    page = look(write_campaign_report(make_campaign(rates=(1e-4, 1e-3, 1e-2))))
    for wanted in (
        "Single flips in ResNet",
        "Stopped early by its rule",
        "most of 4 kinds of faults",
        "What was done",
        "Protections, in this order: secded (sites = weight).",
        "17 694 720",  # possible faults
        "Leveugle, ±1 %",
        "Outcomes",
        "Where it hurts: layer by bit",
        "not tried",
        "Vulnerability",
        "Most vulnerable channels",
        "Accuracy against the rate of faults",
        "Convergence of the estimate",
        "Silent data corruption",
        "SC 2017",
        "DATE 2009",
        "2.13.0+cpu",
        "2 min 03 s",
    ):
        assert wanted in page.words
    assert page.words.count("layer3.7.conv2") >= 2


def test_the_headline_is_a_sentence(make_campaign: MakeCampaign, summary: MakeSummary) -> None:
    told = summary(n_layers=1)
    told["totals"][0]["rates"]["sdc1"] = [0.0035, 0.0042, 0.005]
    sentence = "flip in weight: 0.42 % of answers (95 %: 0.35 to 0.50 %) change."
    assert headline(read_summary(make_campaign(told))) == sentence


@pytest.mark.parametrize(
    ("extent", "asked"), [("one place", 9599), ("3 places", 9604), ("rate 0.1", 9604)]
)
def test_the_page_says_what_leveugle_asks_for(
    extent: str, asked: int, make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    told = summary(n_layers=60)
    told["groups"][0] |= {"extent": extent, "needed": 7}
    folder = make_campaign(told)
    read = read_summary(folder)
    assert leveugle(read, read.groups[0]) == asked
    assert grouped(asked) in look(write_campaign_report(folder)).text


def test_trials_of_all_kinds_together_are_told_as_such(
    make_campaign: MakeCampaign, look: Look
) -> None:
    page = look(write_campaign_report(make_campaign(n_layers=0, rates=(1e-3,), together=True)))
    assert "all together: " in page.words
    assert "Every trial meets all kinds of faults at once." in page.words
    assert "no harm can be put down to one layer and bit" in page.words


def test_every_cell_of_the_map_has_rate_interval_and_trials(make_campaign: MakeCampaign) -> None:
    cells = rows_behind(make_campaign(), "map-flip-in-weight")
    assert len(cells) == 61 * 9
    at = {(cell["layer"], cell["bit"]): cell for cell in cells}
    one = at["layer1.0.conv1", "7"]
    assert (one["main"], one["sub"], one["trials"], one["places"]) == ("40", "22–61", 20, 36_864)
    assert one["range"] == "over 30"
    assert at["layer1.1.conv2", "0"]["range"] == "not tried"
    assert at["all layers", "all"]["main"] == "4.0"


def test_a_cell_fades_as_its_interval_grows(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    known = {"trials": 4000, "rates": {"sdc1": wilson(0, 4000)}}
    told["cells"][0] |= known
    told["cells"][1] |= {"trials": 1, "rates": {"sdc1": wilson(0, 1)}}
    told["cells"][2] |= {"trials": 0, "rates": {}}
    spec = spec_of(make_campaign(told), "map-flip-in-weight")
    cells = {(cell["layer"], cell["bit"]): cell for cell in spec["data"]["values"]}
    sure, once, never = (cells["layer1.0.conv1", str(bit)] for bit in range(3))
    assert (sure["main"], once["main"], sure["range"]) == ("0.00", "0", once["range"])
    channels = spec["layer"][1]["encoding"]
    opacity = dict(
        zip(*(channels["opacity"]["scale"][name] for name in ("domain", "range")), strict=True)
    )
    assert opacity[sure["sure"]] == 1.0
    assert opacity[once["sure"]] < 0.2
    colours = channels["color"]["scale"]
    colour = dict(zip(colours["domain"], colours["range"], strict=True))
    assert colour[never["range"]] != colour[sure["range"]]


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("bitproof inject --model resnet18 --data cifar10", "Flip in weight: resnet18 on cifar10"),
        ("inject", "Flip in weight: resnet18 on cifar10, behind secded"),
        ("What flips do to ours", "What flips do to ours"),
    ],
)
def test_the_title_is_what_was_asked_not_its_command(
    title: str, wanted: str, make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    told = summary(n_layers=1)
    told["campaign"]["title"] = title
    page = look(write_campaign_report(make_campaign(told)))
    assert page.words.split("fault-injection report ")[1].startswith(wanted)
    assert title in page.words.split("The campaign")[-1]


def test_who_computed_is_read_from_beside_the_summary(
    make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    told = summary(n_layers=1)
    for name in ("device", "engine", "seconds"):
        del told["campaign"][name]
    folder = make_campaign(told)
    assert "device: not recorded" in look(write_campaign_report(folder)).words
    work = {"device": "cuda", "engine": "3 processes", "threads": 2, "seconds": 61.0}
    (folder / "work.json").write_text(json.dumps(work))
    words = look(write_campaign_report(folder)).words
    for wanted in ("device: cuda", "engine: 3 processes", "time: 1 min 01 s"):
        assert wanted in words


def test_accuracy_if_the_system_stops_stands_beside_that_if_it_carries_on(
    make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    told = summary(n_layers=1)
    assert "If the system stops" not in look(write_campaign_report(make_campaign(told))).words
    told["totals"][0] |= {"acc_carried": [0.9, 0.912, 0.93], "stopped": [0.1, 0.2, 0.3]}
    words = look(write_campaign_report(make_campaign(told))).words
    assert "If the system stops at a word that it cannot correct" in words
    assert "91" in words.split("If the system stops")[1]


def test_a_sum_that_the_summary_lacks_is_not_called_untried(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    told["cells"] += [cell | {"site": "bias"} for cell in told["cells"]]
    cells = rows_behind(make_campaign(told), "map-flip-in-weight-weight-alone")
    assert len(cells) == 2 * 9 + 8
    assert "not tried" not in {cell["range"] for cell in cells}


def test_a_campaign_without_results_gives_a_page(
    make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    told = summary(n_layers=0)
    lists = ("groups", "outcomes", "totals", "layers", "bits", "cells", "channels", "convergence")
    told |= {name: [] for name in lists}
    told["campaign"] |= {"trials": 0, "stopped": False, "protections": []}
    page = look(write_campaign_report(make_campaign(told)))
    assert "This campaign has no results yet." in page.words
    assert "Partial campaign" in page.words
    assert "The network has no protection." in page.words


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(
    make_campaign: MakeCampaign, look: Look
) -> None:
    folder = make_campaign(rates=(1e-3,))
    page = look(write_campaign_report(folder))
    page.assert_harmless()
    assert len(page.programs) == 1
    raw = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", raw)


def test_hostile_names_stay_text(
    make_campaign: MakeCampaign, summary: MakeSummary, look: Look
) -> None:
    text = json.dumps(summary(n_layers=2, rates=(1e-3,)))
    for name in ("layer1.0.conv1", "Single flips", "resnet18", "secded", "cifar10", "oneDNN"):
        text = text.replace(name, json.dumps(NASTY)[1:-1])
    for name in ("layer1.0.conv2", "flip in weight", '"weight', "2.13.0"):
        head = '"' if name.startswith('"') else ""
        text = text.replace(name, head + json.dumps(CDATA)[1:-1])
    page = look(write_campaign_report(make_campaign(json.loads(text))))
    page.assert_harmless()
    assert page.tags.count("script") == 1
    assert page.text.count(NASTY) > 5
    assert page.text.count(CDATA) > 10


def test_the_same_summary_gives_the_same_bytes(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(n_layers=3)
    assert write_campaign_report(folder).read_bytes() == write_campaign_report(folder).read_bytes()


def test_a_network_of_sixty_layers_stays_small(make_campaign: MakeCampaign) -> None:
    assert write_campaign_report(make_campaign()).stat().st_size < 350_000


def test_a_damaged_summary_leaves_the_old_report(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(n_layers=1)
    old = write_campaign_report(folder).read_bytes()
    (folder / "summary.json").write_text("rubbish")
    with pytest.raises(DataError):
        write_campaign_report(folder)
    assert (folder / "report.html").read_bytes() == old


def test_ranges_rise_with_the_rate() -> None:
    rates = [0.0, *(limit * factor for limit in LIMITS for factor in (0.9, 1.1)), 1.0]
    found = [RANGES.index(range_of(rate)) for rate in rates]
    assert found == sorted(found)
    assert set(found) == set(range(10))


@pytest.mark.parametrize("n", [3, 50, 1000, 100_000, 10_000_000])
def test_digits_shown_tell_the_ends_of_an_interval_from_the_rate(n: int) -> None:
    for successes in {0, 1, n // 7, n // 2, n}:
        rate = wilson(successes, n)
        low, high = span(rate).split(" to ")
        assert float(low) <= float(value(rate)) <= float(high)
        assert float(low) < float(high)
        assert abs(float(value(rate)) - 100 * rate.value) <= 100 * (rate.high - rate.low)
        assert (float(value(rate)) > 0) == (successes > 0)


def test_whiskers_that_would_dwarf_all_bars_are_cut_off(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    told["layers"][0]["rates"]["sdc1"] = [0.0, 0.001, 0.9]
    told["layers"][1]["rates"]["sdc1"] = [0.0, 0.0005, 0.001]
    bars = rows_behind(make_campaign(told), "layer-flip-in-weight")
    assert [bar["high"] for bar in bars] == pytest.approx([0.4, 0.1])


@pytest.mark.parametrize(("margin", "drawn"), [(0.01, 2), (0.5, 0), (None, 0)])
def test_the_margin_is_drawn_unless_it_dwarfs_the_interval(
    margin: float | None, drawn: int, make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["campaign"]["margin"] = margin
    spec = spec_of(make_campaign(told), "convergence-flip-in-weight-sdc-1")
    assert len(spec["layer"][-1]["data"]["values"]) == drawn


def test_long_convergence_is_thinned_and_keeps_its_end(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    n = 5000
    told = summary(n_layers=1)
    ends = {name: [value] * n for name, value in (("low", 0.1), ("value", 0.2), ("high", 0.3))}
    told["convergence"] = [{"group": 0, "outcome": "sdc1", "trials": list(range(n)), **ends}]
    points = rows_behind(make_campaign(told), "convergence-flip-in-weight-sdc-1")
    assert len(points) <= 200
    assert points[-1]["trials"] == n - 1


def spec_of(folder: Path, name: str) -> Any:
    """Return the spec of a figure."""
    found = {each.name: each.spec for each in campaign_figures(read_summary(folder))}
    return json.loads(found[name])


def rows_behind(folder: Path, name: str) -> Any:
    """Return the rows that a figure shows."""
    return spec_of(folder, name)["data"]["values"]
