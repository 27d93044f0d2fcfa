"""The tables of a run's page. Conditions are rows, so that twenty levels still fit a page."""

from collections.abc import Sequence

from bitproof.report.findings import AccuracyChange, Gain, focus, focus_level, gain, interval_text
from bitproof.report.page_table import (
    DASH,
    PageCell,
    PageTable,
    accuracy_text,
    facts_table,
    few,
    make_table,
    percent_text,
    table_of,
)
from bitproof.report.records import StageRecord
from bitproof.report.run import CLEAN, FLOAT, Condition, Run, parts
from bitproof.report.wording import METRIC_NAMES, count, percent, points, seconds, settings
from bitproof.stats.threats import Family

UNITS: dict[Family, str] = {"none": "image", "input_attack": "image"}
"""What is independent from one draw to the next, where it is not a chip."""
DURATIONS_SHOWN = 8
TAKEN = {None: DASH, True: "yes", False: "no"}


def network_table(run: Run, names: Sequence[str]) -> PageTable:
    """Return what each variant is: the kinds of its stages, and whose products it has."""
    known = {FLOAT: "floating point, before quantization"}
    known[run.facts.baseline] = "quantized without hardening: the baseline"
    words = {name: ", ".join(_kind(run, part) for part in parts(name)) for name in names}
    return facts_table({name: known.get(name, words[name]) for name in names}, "names")


def stage_table(run: Run) -> PageTable:
    """Return the stages with their settings."""
    stages = run.facts.stages.items()
    shown = {k: settings(v) for k, v in stages if k not in run.facts.multipliers}
    return facts_table(shown, "names")


def accuracy_table(run: Run, names: Sequence[str]) -> PageTable:
    """Return accuracies in per cent: clean, then each threat at each level, then its mean."""

    def line(threat: str, level: float | None, metric: str = "acc") -> list[str]:
        return [accuracy_text(run.find(name, threat, level, metric=metric)) for name in names]

    rows: list[list[PageCell | str]] = [
        [_heading("Clean", _units(run, CLEAN))],
        [PageCell("no threat"), *line(CLEAN, 0.0)],
    ]
    for metric, name in _more(run, CLEAN):
        rows.append([name, *line(CLEAN, 0.0, metric)])
    for threat in run.threats:
        label, levels = run.label(threat), run.levels(threat)
        rows.append([_heading(label.title, label.symbol, _units(run, threat))])
        for level in levels:
            look = "focus" if level == focus_level(levels) else ""
            rows.append([PageCell(label.pretty_level(level), look), *line(threat, level)])
        for metric, name in _more(run, threat):
            rows += [
                [f"{name}, {label.pretty_level(level)}", *line(threat, level, metric)]
                for level in run.levels(threat, metric)
            ]
        if any(row.metric == "auc_fr" and row.threat == threat for row in run.rows):
            rows.append(["AUC", *line(threat, None, "auc_fr")])
    return _by_variant(run, names, rows)


def _more(run: Run, threat: str) -> list[tuple[str, str]]:
    """Return what the task counts beside right answers, and how it is written."""
    found = {row.metric for row in run.rows if row.threat == threat}
    return [pair for pair in METRIC_NAMES.items() if pair[0] in found]


def chip_table(run: Run, names: Sequence[str]) -> PageTable:
    """Return the worst chip and the standard deviation between chips."""
    rows: list[list[PageCell | str]] = []
    for threat in run.threats:
        label = run.label(threat)
        levels = {*run.levels(threat, "acc_min"), *run.levels(threat, "acc_std")} - {0.0}
        rows += [[_heading(label.title, label.symbol)]] if levels else []
        for level in sorted(levels):
            cells = (_chip(run, name, threat, level) for name in names)
            rows.append([label.pretty_level(level), *cells])
    return _by_variant(run, names, rows)


def matrix_table(run: Run, names: Sequence[str]) -> PageTable:
    """Return the asymmetry matrix: what each variant gains under what it was not made for, too."""
    base = run.facts.baseline
    columns = [(CLEAN, 0.0), *(each for threat in run.threats for each in focus(run, threat))]
    gains = {
        name: [gain(run, name, threat) for threat, _ in columns]
        for name in names
        if name not in {FLOAT, base}
    }
    changes = [abs(each.middle.value) for line in gains.values() for each in line if each]
    deepest = max([0.1, *changes])
    known = (run.find(base, *column) for column in columns)
    first: list[PageCell | str] = [
        base,
        *(percent_text(row.value if row else None) for row in known),
    ]
    rows = [first]
    for name, line in gains.items():
        rows.append([name, *(_gain_cell(each, deepest) for each in line)])
    head = ["network", *(condition_head(run, column) for column in columns)]
    return make_table(head, rows, look="wide names")


def condition_head(run: Run, condition: Condition) -> str:
    """Return the head of a column of one condition."""
    threat, level = condition
    label = run.label(threat)
    return (
        "Clean"
        if threat == CLEAN
        else f"{label.title}\n{label.symbol} = {label.pretty_level(level)}"
    )


def change_text(change: AccuracyChange) -> str:
    """Return a change in points, with its interval below."""
    return f"{points(change.value)}\n{interval_text(change)}"


def adjustment_table(record: StageRecord) -> PageTable:
    """Return what the adjustment tried, layer by layer."""
    return table_of(
        (record.alpha or {}).items(),
        [
            ("layer", lambda pair: pair[0]),
            ("chosen", lambda pair: DASH if pair[1].chosen is None else f"{pair[1].chosen:.2f}"),
            ("before", lambda pair: percent_text(pair[1].acc_before)),
            ("after", lambda pair: percent_text(pair[1].acc_after)),
            ("taken", lambda pair: TAKEN[pair[1].accepted]),
        ],
        title=f"{record.stage} in {few(record.variants)}",
        look="wide names",
    )


def training_table(records: Sequence[StageRecord]) -> PageTable:
    """Return how the training of each stage went."""
    return table_of(
        [(each, each.loss) for each in records if each.loss],
        [
            ("stage", lambda pair: pair[0].stage),
            ("networks", lambda pair: PageCell(few(pair[0].variants), "text")),
            ("epochs", lambda pair: str(len(pair[1]))),
            ("first loss", lambda pair: f"{pair[1][0]:.3f}"),
            ("last loss", lambda pair: f"{pair[1][-1]:.3f}"),
            ("last accuracy", lambda pair: percent_text(pair[0].acc[-1] if pair[0].acc else None)),
        ],
        look="names",
    )


def duration_table(run: Run) -> PageTable:
    """Return what took longest."""
    spent = run.facts.durations
    longest = sorted(spent.items(), key=lambda item: -item[1])
    facts = {"all computing": seconds(sum(spent.values())) if spent else None}
    facts |= {name: seconds(each) for name, each in longest[:DURATIONS_SHOWN]}
    left = longest[DURATIONS_SHOWN:]
    if left:
        facts[f"{len(left)} shorter ones"] = seconds(sum(each for _, each in left))
    return facts_table(facts)


def _by_variant(
    run: Run, names: Sequence[str], rows: Sequence[Sequence[PageCell | str]]
) -> PageTable:
    """Return a table with a column for each variant; that of the full pipeline stands out."""
    at = names.index(run.full) + 1 if run.full in names else None
    marked = [
        [PageCell(cell, "full") if i == at and isinstance(cell, str) else cell for i, cell in each]
        for each in map(enumerate, rows)
    ]
    return make_table(["condition", *names], marked, look="wide names-across")


def _heading(title: str, *notes: str) -> PageCell:
    return PageCell(f"{title}\n{', '.join(filter(None, notes))}", "group")


def _chip(run: Run, variant: str, threat: str, level: float) -> str:
    worst = run.find(variant, threat, level, metric="acc_min")
    spread = run.find(variant, threat, level, metric="acc_std")
    sigma = f"\nσ {percent(spread.value)}" if spread else ""
    return (percent(worst.value) if worst else DASH) + sigma


def _gain_cell(gain: Gain | None, deepest: float) -> PageCell:
    if gain is None:
        return PageCell(DASH)
    change = gain.middle
    text = change_text(change)
    if change.after.threat != CLEAN:
        text += f"\nclear gain at {gain.raised}/{len(gain.changes)}"
    look = ("gain" if change.value > 0 else "loss") + (" clear" if change.sign else "")
    return PageCell(text, look, abs(change.value) / deepest)


def _kind(run: Run, part: str) -> str:
    if part not in run.facts.multipliers:
        return str(run.facts.stages.get(part, {}).get("kind", part))
    multiplier = run.facts.multipliers[part]
    cost = "" if multiplier.power_mw is None else f" ({multiplier.power_mw:.3g} mW)"
    return f"products of {multiplier.label or part}{cost}"


def _units(run: Run, threat: str) -> str:
    """Return the number of independent units, as a range where rows differ."""
    rows = [row for row in run.rows if row.threat == threat and row.metric == "acc"]
    sizes = sorted({row.n for row in rows if row.n is not None})
    noun = "image" if threat == CLEAN else UNITS.get(run.label(threat).family, "chip")
    if not sizes:
        return ""
    return count(sizes[0], noun) if len(sizes) == 1 else f"{sizes[0]} to {count(sizes[-1], noun)}"
