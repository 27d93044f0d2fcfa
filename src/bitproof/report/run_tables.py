"""The tables of a run's page. Conditions are rows, so that twenty levels still fit a page."""

from collections.abc import Sequence
from dataclasses import replace

from bitproof.report.findings import Gain, focus, focus_level, gain, interval_text
from bitproof.report.page_table import (
    DASH,
    PageCell,
    PageTable,
    accuracy_text,
    facts_table,
    few,
    make_table,
    percent_text,
    settings_table,
    table_of,
)
from bitproof.report.paired import AccuracyChange, paired_change
from bitproof.report.records import StageRecord
from bitproof.report.run import CLEAN, FLOAT, Condition, Run, parts
from bitproof.report.tallies import Measurement
from bitproof.report.wording import METRIC_NAMES, count, percent, points, seconds
from bitproof.stats.intervals import wilson
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
    """Return the stages with their settings, one by one."""
    stages = run.facts.stages.items()
    return settings_table({k: v for k, v in stages if k not in run.facts.multipliers})


def accuracy_table(run: Run, names: Sequence[str]) -> PageTable:
    """Return accuracies in per cent: clean, then each threat at each level, then its mean."""

    def line(threat: str, level: float | None, metric: str = "acc") -> list[PageCell | str]:
        found = [accuracy_text(run.find(name, threat, level, metric=metric)) for name in names]
        best = best_of(run, names, threat, level) if metric == "acc" and level is not None else ()
        return [
            PageCell(text, "best") if name in best else text
            for name, text in zip(names, found, strict=True)
        ]

    rows: list[list[PageCell | str]] = [
        [_heading("Clean", _units(run, CLEAN))],
        [PageCell("no threat"), *line(CLEAN, 0.0)],
    ]
    for metric, name in _more(run, CLEAN):
        rows.append([name, *line(CLEAN, 0.0, metric)])
    for threat in run.threats:
        label, levels = run.label(threat), run.levels(threat)
        rows.append([_heading(label.title, label.symbol, _units(run, threat))])
        same = [clean_on(run, name, threat) for name in names]
        if any(same):
            size = next(one.total for one in same if one)
            ends = [DASH if one is None else _share_text(one.correct, one.total) for one in same]
            rows.append([f"clean\nthe same {count(size, 'image')}", *ends])
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


def best_of(run: Run, names: Sequence[str], threat: str, level: float) -> set[str]:
    """Return the network of highest accuracy and all that cannot be told from it.

    Two can be told apart where the 95 % interval of their difference excludes zero. None, where
    all networks tie, or intervals are not known.
    """
    rows = {name: row for name in names if (row := run.find(name, threat, level))}
    if len(rows) < 2 or any(row.interval is None for row in rows.values()):
        return set()
    first = max(rows, key=lambda name: rows[name].value)
    changes = {name: paired_change(run, name, first, threat, level) for name in rows}
    tied = {name for name, one in changes.items() if one is not None and one.sign <= 0}
    return set() if tied == set(rows) else tied


def clean_on(run: Run, variant: str, threat: str) -> Measurement | None:
    """Return what a network answers without a threat on the images of that threat.

    None where they are those of the row of clean accuracy, or nobody counted.
    """
    trials = [
        found
        for level in run.levels(threat)
        for found in [run.trials.get((run.network_of(variant), threat, level), {})]
        if found
    ]
    if not trials:
        return None
    attacked = run.label(threat).family in UNITS
    sizes = {sum(one.total for one in found.values()) for found in trials}
    if not attacked:
        sizes = {one.total for found in trials for one in found.values()}
    clean = run.clean(variant)
    if len(sizes) != 1 or (clean is not None and clean.n in sizes):
        return None
    return run.references.get((run.network_of(variant), sizes.pop()))


def _share_text(correct: int, total: int) -> str:
    low, value, high = wilson(correct, total)
    return f"{percent(value)}\n{percent(low)}–{percent(high)}"


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
    """Return a table with a column for each variant; that of the full pipeline is tinted."""
    at = names.index(run.full) + 1 if run.full in names else None
    marked = [
        [_tinted(cell) if i == at else cell for i, cell in each] for each in map(enumerate, rows)
    ]
    return make_table(["condition", *names], marked, look="wide names-across")


def _tinted(cell: PageCell | str) -> PageCell:
    if isinstance(cell, str):
        return PageCell(cell, "full")
    return replace(cell, look=f"full {cell.look}".strip())


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
        return str(run.facts.stages.get(part, {}).get("kind", part)).replace("_", " ")
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
