"""The report of a fault-injection campaign as one page."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitproof.core.directory import read_json
from bitproof.core.errors import DataError
from bitproof.core.files import write_text
from bitproof.report import html, wording
from bitproof.report.campaign_summary import (
    SUMMARY,
    CampaignSummary,
    GroupFacts,
    TrialRates,
    read_summary,
    slices,
)
from bitproof.report.fidelity import layer_table
from bitproof.report.glossary import Glossary, terms
from bitproof.report.harm_page import harm_part
from bitproof.report.html import REPORT, Alert, Tile
from bitproof.report.page_table import (
    DASH,
    Columns,
    PageCell,
    PageTable,
    facts_table,
    rate_text,
    settings_table,
    table_of,
)
from bitproof.stats.intervals import Interval
from bitproof.stats.sample_size import sample_size

WORK = "work.json"
"""Who computed a campaign, where and for how long."""
CHANNELS_SHOWN = 20
TILES_SHOWN = 6
COMMAND = "bitproof "
"""How the title of a campaign begins that was asked for on the command line alone."""
UNTOLD = frozenset({"inject", "fault injection"})
"""Titles that nobody gave."""
MOST_NAMED = 3
"""Kinds of faults that a heading names."""
Writer = Callable[[TrialRates], str]
"""What to write of some trials in one column."""
SINGLE = frozenset({"one place", "exhaustive"})
ENDLESS = 1 << 62


def write_campaign_report(folder: Path, *, interactive: bool = False) -> Path:
    """Write `report.html` into a campaign directory and return its path.

    Args:
        folder: the directory.
        interactive: draw figures in the browser, by a program inside the page.

    Raises:
        DataError: `summary.json` is missing or damaged.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = folder / REPORT
    summary = with_work(read_summary(folder / SUMMARY), folder)
    write_text(path, render_campaign(summary, interactive=interactive))
    return path


def with_work(summary: CampaignSummary, folder: Path) -> CampaignSummary:
    """Return a summary with what its directory tells of who computed, where and for how long.

    Raises:
        DataError: that file is damaged.
    """
    path = folder / WORK
    if not path.is_file():
        return summary
    known = read_json(path, DataError)
    seconds = known.get("seconds")
    told: dict[str, Any] = {
        name: str(known[name]) for name in ("device", "engine") if known.get(name)
    }
    if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0:
        told["seconds"] = float(seconds)
    campaign = summary.campaign.model_copy(update=told)
    return summary.model_copy(update={"campaign": campaign})


def render_campaign(summary: CampaignSummary, *, interactive: bool = False) -> str:
    """Return the page; equal summaries give equal pages."""
    from bitproof.report.campaign_charts import campaign_figures  # noqa: PLC0415 - slow to import

    drawn = campaign_figures(summary)
    return html.render("campaign.html.j2", _context(summary), drawn, interactive=interactive)


def _context(summary: CampaignSummary) -> dict[str, Any]:
    campaign = summary.campaign
    golden = campaign.golden_acc
    images = wording.count(campaign.images, "image")
    confidence = wording.confidence_text(campaign.confidence)
    aside = (
        ""
        if golden is None
        else f"Without faults, accuracy on the same images is {_rate_line(golden)}."
    )
    for name, number in campaign.golden.items():
        aside += f" {wording.METRIC_NAMES.get(name, name)} is {wording.figure(100 * number)} %."
    return {
        "brand": "fault-injection report",
        "heading": heading(summary),
        "subtitle": [
            campaign.model or f"model {wording.ABSENT}",
            f"data: {campaign.data or wording.ABSENT}, {images}",
            wording.count(campaign.trials, "trial"),
            f"device: {campaign.device or wording.ABSENT}",
            f"engine: {campaign.engine or wording.ABSENT}",
            f"time: {_time(campaign.seconds)}",
        ],
        "alerts": alerts(summary),
        "headline": headline(summary),
        "aside": aside,
        "tiles": [_tile(summary, row) for row in summary.totals[:TILES_SHOWN]],
        "checks": checks_line(summary),
        "campaign": campaign,
        "command": campaign.title if campaign.title.startswith(COMMAND) else "",
        "confidence": confidence,
        "margin": _margin_text(summary),
        "images": images,
        "protections": ", ".join(wording.settings(each) for each in campaign.protections),
        "array": array_text(campaign.array or {}),
        "planned": planned_table(summary),
        "fidelity": layer_table(campaign.fidelity),
        "outcomes": outcome_table(summary),
        "places": place_tables(summary),
        "harm": harm_part(summary),
        "channels": channel_table(summary),
        "channels_left": len(summary.channels) - CHANNELS_SHOWN,
        "environment": environment(summary),
        "correction": correction_table(summary),
        "kinds": settings_table(_settings(summary)),
        "glossary": _glossary(summary),
    }


def heading(summary: CampaignSummary) -> str:
    """Return the title of a campaign; where nobody gave one, what was asked, in words."""
    campaign = summary.campaign
    given = campaign.title not in UNTOLD and not campaign.title.startswith(COMMAND)
    if given and " " in campaign.title.strip():  # else it is a name, for directories
        return campaign.title
    labels = list(dict.fromkeys(group.label for group in summary.groups if group.label))
    told = ", ".join(labels[:MOST_NAMED]) if len(labels) <= MOST_NAMED else ""
    what = told or wording.count(len(labels), "kind") + " of faults" if labels else "Faults"
    where = campaign.model.rsplit("/", 1)[-1] if campaign.model else "a network"
    data = f" on {campaign.data}" if campaign.data else ""
    behind = [str(one.get("kind")).replace("_", " ") for one in campaign.protections]
    guard = f", behind {' and '.join(behind)}" if behind else ""
    return f"{what[:1].upper()}{what[1:]}: {where}{data}{guard}"


def checks_line(summary: CampaignSummary) -> str:
    """Return which checks of a campaign were made, and that nothing was found if so."""
    campaign = summary.campaign
    check = "integers compared with floats"
    if campaign.fidelity is None:
        return f"Not checked: {check} (the network was stored without the comparison)."
    if campaign.warnings:
        return f"Check that ran: {check}. All warnings stand above."
    return f"Check that ran: {check} – it raised no warning."


def meanings(summary: CampaignSummary) -> list[tuple[str, str]]:
    """Return what the silent outcomes of the campaign's task mean, by their names."""
    return list(wording.outcome_meanings(summary.campaign.task or {}).items())


def _glossary(summary: CampaignSummary) -> Glossary:
    """Return the terms of the page, those of the task among them."""
    confidence = wording.confidence_text(summary.campaign.confidence)
    own = {anchor(name): (name, words) for name, words in meanings(summary)}
    repeated = (
        f"Range that covers the true value in about {confidence} of repetitions of the campaign, "
        "with the same images."
    )
    return terms(
        [
            *("fault", "masked", "sdc", *own, "due", "fvf", "fit", "ber", "interval", "sample"),
            *(("ecc",) if summary.campaign.protections else ()),
            *(("sqnr",) if summary.campaign.fidelity else ()),
        ],
        {**own, "interval": (f"{confidence} interval", repeated)},
    )


def anchor(name: str) -> str:
    """Return the key of the anchor of an outcome.

    Example:
        >>> anchor("SDC-10 %, SDC-20 %")
        'sdc-10-sdc-20'
    """
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def _settings(summary: CampaignSummary) -> dict[str, Mapping[str, Any]]:
    """Return the settings of faults, protections and array by name."""
    campaign = summary.campaign
    found: dict[str, Mapping[str, Any]] = {
        summary.label(group.group): group.kind for group in summary.groups
    }
    for number, one in enumerate(campaign.protections, 1):
        found[f"protection {number}"] = one
    return found | ({"array": campaign.array} if campaign.array else {})


def correction_table(summary: CampaignSummary) -> PageTable:
    """Return accuracy if the system stops at words beyond repair, beside that if it goes on."""
    rows = [row for row in summary.totals if row.acc_carried is not None and row.acc is not None]
    return table_of(
        rows,
        [
            ("faults", lambda row: summary.label(row.group)),
            ("accuracy, %\ncarries on", lambda row: rate_text(row.acc_carried)),
            ("accuracy, %\nstops", lambda row: rate_text(row.acc)),
            ("trials with such\na word, %", lambda row: rate_text(row.stopped)),
        ],
        look="wide dense",
    )


def _time(spent: float | None) -> str:
    return wording.ABSENT if spent is None else wording.seconds(spent)


def array_text(array: Mapping[str, Any]) -> str:
    """Return what the layers of a campaign ran on, in words.

    Example:
        >>> array_text({"dataflow": "row_stationary", "rows": 4, "columns": 8, "scope": "pe_row"})
        'row stationary, 4 rows, 8 columns, scope pe row'
    """
    words = [str(array.get("dataflow", "")).replace("_", " ")]
    words += [f"{array[name]} {name}" for name in ("rows", "columns") if name in array]
    rest = {name: array[name] for name in ("scope", "latency", "stream", "window") if name in array}
    words += [f"{k} {v}".replace("_", " ") for k, v in rest.items() if v is not None]
    return ", ".join(word for word in words if word)


def alerts(summary: CampaignSummary) -> list[Alert]:
    """Return what is missing in a campaign, and the warnings of its checks."""
    campaign = summary.campaign
    title = f"{wording.count(len(campaign.warnings), 'warning')} from the checks of this campaign"
    found = [Alert(title, campaign.warnings)] if campaign.warnings else []
    if campaign.trials >= campaign.planned:
        return found
    done = f"{wording.grouped(campaign.trials)} of {wording.grouped(campaign.planned)}"
    reason = "" if campaign.stopped else ": it is still going, or was interrupted"
    title = "Stopped early by its rule" if campaign.stopped else "Partial campaign"
    return [Alert(title, [f"{done} planned trials are done{reason}."]), *found]


def headline(summary: CampaignSummary) -> str:
    """Return what the campaign found, in one sentence: the kind of fault that does most harm."""
    rated = [(row, rate) for row in summary.totals if (rate := row.rate()) is not None]
    if not rated:
        return "This campaign has no results yet."
    row, rate = max(rated, key=lambda pair: pair[1].value)
    confidence = wording.confidence_text(summary.campaign.confidence)
    numbers = f"{wording.value(rate)} % of answers ({confidence}: {wording.span(rate)} %)"
    among = "" if len(rated) == 1 else f", most of {len(rated)} kinds of faults"
    return f"{summary.label(row.group)}: {numbers} change{among}.{_detected(summary)}"


def _detected(summary: CampaignSummary) -> str:
    """Return how often errors were found and not corrected, where that is often."""
    rated = [(row, rate) for row in summary.totals if (rate := row.rate("due")) and rate.value > 0]
    if not rated:
        return ""
    row, rate = max(rated, key=lambda pair: pair[1].value)
    where = "" if len(summary.totals) == 1 else f" ({summary.label(row.group)})"
    numbers = f"{wording.value(rate)} % ({wording.span(rate)} %)"
    return f" Detected and not recovered (DUE): {numbers}{where}."


def planned_table(summary: CampaignSummary) -> PageTable:
    """Return what was planned for each kind of fault, and what came of it."""
    margin = _margin_text(summary)
    confidence = wording.confidence_text(summary.campaign.confidence)

    def done(group: GroupFacts) -> PageCell:
        asked = leveugle(summary, group)
        short = asked is not None and group.trials < asked
        return PageCell(wording.grouped(group.trials), "warn" if short else "")

    def share(group: GroupFacts) -> str:
        if not group.population or group.extent not in SINGLE:
            return DASH
        return f"{100 * group.trials / group.population:.3g} %"

    def known(group: GroupFacts) -> str:
        total = summary.total(group.group)
        rate = total.rate() if total else None
        return DASH if rate is None else f"±{50 * (rate.high - rate.low):.2g}"

    def extent(group: GroupFacts) -> PageCell:
        sites = f" of {', '.join(group.sites)}" if group.sites else ""
        return PageCell(group.extent + sites, "text")

    asked_for = f"asked for\nLeveugle{f', ±{margin} %' if margin else ''}"
    columns: Columns[GroupFacts] = [
        ("faults", lambda group: summary.label(group.group)),
        ("extent", extent),
        ("possible faults", lambda group: _number(group.population)),
        (asked_for, lambda group: _number(leveugle(summary, group))),
        ("planned", lambda group: _number(group.needed)),
        ("trials done", done),
        ("share", share),
        (f"SDC-1 known\nto points, {confidence}", known),
    ]
    return table_of(summary.groups, columns, look="wide dense keep")


def leveugle(summary: CampaignSummary, group: GroupFacts) -> int | None:
    """Return the sample that the formula asks for; sets of several places are without number."""
    margin, confidence = summary.campaign.margin, summary.campaign.confidence
    size = group.population if group.extent in SINGLE else ENDLESS
    if not group.population or not size or margin is None or not 0 < margin < 1:
        return None
    return sample_size(size, margin=margin, confidence=confidence)


def outcome_table(summary: CampaignSummary) -> PageTable:
    """Return outcomes, accuracy and failures in time of each kind of fault."""

    def rate_of(outcome: str) -> Writer:
        return lambda row: rate_text(row.rate(outcome))

    def metric_of(name: str) -> Writer:
        return lambda row: rate_text(row.metrics.get(name))

    more = dict.fromkeys(name for row in summary.totals for name in row.metrics)

    def worst(row: TrialRates) -> str:
        if row.acc_min is None or not row.trials:
            return DASH
        sigma = "" if row.acc_std is None else f"\nσ {wording.percent(row.acc_std)}"
        return wording.percent(row.acc_min) + sigma

    columns: Columns[TrialRates] = [
        ("faults", lambda row: summary.label(row.group)),
        *((wording.outcome_name(name), rate_of(name)) for name in summary.outcomes),
        ("accuracy", lambda row: rate_text(row.acc if row.trials else None)),
        *((wording.METRIC_NAMES.get(name, name), metric_of(name)) for name in more),
        ("worst trial", worst),
        *_fit_and_trials(summary.totals),
    ]
    return table_of(summary.totals, columns, look="wide dense")


def place_tables(summary: CampaignSummary) -> list[PageTable]:
    """Return the rates by layer, and by bit, of every kind of fault at every kind of site."""
    found = []
    for part in slices(summary):
        bits = [row for bit in part.bit_numbers if (row := part.row(None, bit))]
        names: tuple[tuple[str, Sequence[TrialRates], Writer], ...] = (
            ("layer", part.layers, lambda row: row.layer),
            ("bit", bits, lambda row: str(row.bit)),
        )
        for what, rows, name in names:
            rate: Columns[TrialRates] = [("SDC-1", lambda row: _rate_line(row.rate()))]
            columns = [(what, name), *rate, *_fit_and_trials(rows)]
            title = f"{part.title}, by {what}"
            found.append(table_of(rows, columns, title=title, look="wide dense names"))
    return [table for table in found if table.rows]


def channel_table(summary: CampaignSummary) -> PageTable:
    """Return the channels where faults do most."""
    return table_of(
        summary.channels[:CHANNELS_SHOWN],
        [
            ("layer", lambda row: row.layer),
            ("channel", lambda row: str(row.channel)),
            ("faults", lambda row: PageCell(summary.label(row.group), "text")),
            ("site", lambda row: PageCell(row.site, "text")),
            ("SDC-1, %", lambda row: rate_text(row.rate())),
            ("trials", lambda row: wording.grouped(row.trials)),
        ],
        look="names",
    )


def environment(summary: CampaignSummary) -> PageTable:
    """Return what the campaign was made of and on; missing facts say so."""
    campaign = summary.campaign
    named = {
        "name or title": campaign.title,
        "model": campaign.model,
        **({"weights": campaign.weights} if campaign.weights else {}),
        "data": campaign.data,
        "images": campaign.images,
        "trials planned": campaign.planned,
        "trials done": campaign.trials,
        "seed": campaign.seed,
        "network (SHA-256)": campaign.network,
        "counts (SHA-256)": campaign.checksum,
        "device": campaign.device,
        "engine": campaign.engine,
        "time": _time(campaign.seconds),
    }
    if campaign.task is not None:
        named |= {"task": wording.settings(campaign.task)}
    return facts_table(named | dict(campaign.versions))


def _tile(summary: CampaignSummary, row: TrialRates) -> Tile:
    label, rate = summary.label(row.group), row.rate()
    if rate is None:
        return Tile(label, DASH, "not tried", [])
    confidence = wording.confidence_text(summary.campaign.confidence)
    interval = f"{confidence} interval {wording.span(rate)} %"
    trials = wording.count(row.trials, "trial")
    return Tile(label, wording.value(rate), "% SDC-1", [interval, trials])


def _margin_text(summary: CampaignSummary) -> str:
    margin = summary.campaign.margin
    return "" if margin is None else f"{100 * margin:.4g}"


def _rate_line(rate: Interval | None) -> str:
    return DASH if rate is None else f"{wording.value(rate)} % ({wording.span(rate)} %)"


def _number(number: int | None) -> str:
    return DASH if number is None else wording.grouped(number)


def _fit_and_trials(rows: Sequence[TrialRates]) -> Columns[TrialRates]:
    """Return the last columns: FIT where some row has it, and the trials."""

    def fit(row: TrialRates) -> str:
        if row.fit is None:
            return DASH
        low, value, high = (wording.figure(end) for end in row.fit)
        return f"{value}\n{low}–{high}"

    last: Columns[TrialRates] = [("trials", lambda row: wording.grouped(row.trials))]
    return [("FIT", fit), *last] if any(row.fit for row in rows) else last
