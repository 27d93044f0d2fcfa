"""The tables of a search over multipliers, for its page and for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitproof.report import wording
from bitproof.report.page_table import DASH, PageCell, PageTable, make_table

MOST_FRONT = 25
"""Choices of a front that are listed."""
MOST_LAYERS = 60
"""Layers that are listed."""
Summary = Mapping[str, Any]


def objective_title(objective: Mapping[str, Any]) -> str:
    """Return a threat and its level in words.

    Example:
        >>> objective_title({"title": "Random bit flips", "level": 0.005})
        'Random bit flips at 0.005'
    """
    level = objective["level"]
    return f"{objective['title']} at {level:.3g}" if level else str(objective["title"])


def front_table(summary: Summary) -> PageTable:
    """Return the choices that no other beats, the cheapest first."""
    head = ["search", "cost, %", "power, %", "area, %", "latency, %"]
    head += [f"{objective_title(one)}, %" for one in summary["objectives"]]
    head += ["predicted, %", "images no\nsearch saw, %"]
    rows: list[list[PageCell | str]] = []
    for row in _thinned(summary["front"]):
        figures = [wording.percent(row[name]) for name in ("cost", "power", "area", "latency")]
        accs = [_ends(one) for one in row["intervals"]]
        predicted = DASH if row["predicted"] is None else _ends(row["predicted"])
        held_out = DASH if row["held_out"] is None else _ends(row["held_out"][0])
        rows.append([row["search"], *figures, *accs, predicted, held_out])
    return make_table(head, rows, look="wide dense")


def _thinned(rows: Sequence[Any]) -> Sequence[Any]:
    """Return some of many rows, evenly spread, the first and the last among them."""
    if len(rows) <= MOST_FRONT:
        return rows
    step = (len(rows) - 1) / (MOST_FRONT - 1)
    return [rows[round(number * step)] for number in range(MOST_FRONT)]


def chosen_table(summary: Summary) -> PageTable:
    """Return which layer has which multipliers."""
    chosen = summary["chosen"]
    if chosen is None:
        return make_table([], [])
    macs = {one["name"]: one["macs"] for one in summary["units"]["layers"]}
    rows: list[list[PageCell | str]] = []
    for own in chosen["used"][:MOST_LAYERS]:
        count = sum(own["filters"].values())
        parts = [
            name if n == count else f"{name} {n}"
            for name, n in sorted(own["filters"].items(), key=lambda one: -one[1])
        ]
        share = macs[own["layer"]] / summary["units"]["macs"]
        cell = PageCell(", ".join(parts), "text")
        rows.append([own["layer"], str(count), wording.percent(share), cell])
    return make_table(["layer", "filters", "products, %", "multipliers"], rows, look="names dense")


def elsewhere_table(summary: Summary) -> PageTable:
    """Return what the choice takes on this accelerator, and on others."""
    rows: list[list[PageCell | str]] = [
        [
            one["accelerator"],
            str(one["kinds"]),
            *(wording.percent(one[name]) for name in ("power", "area", "latency")),
        ]
        for one in summary.get("elsewhere", ())
    ]
    head = ["accelerator", "kinds of\nmultipliers", "power, %", "area, %", "latency, %"]
    return make_table(head, rows, look="dense")


def elsewhere_text(summary: Summary) -> str:
    """Return why the same choice costs something else on another accelerator."""
    own = summary.get("elsewhere", ())
    if len(own) < 2:
        return ""
    shared = next((one for one in own if one["shared"]), None)
    apart = next((one for one in own if not one["shared"]), None)
    if shared is None or apart is None:
        return ""
    ends = wording.percent(shared["area"]), wording.percent(apart["area"])
    if shared["kinds"] == 1:
        return (
            f"The choice has one kind of multiplier: {ends[0]} % of the area of exact products on "
            f"an array that all layers share, {ends[1]} % in engines of their own."
        )
    return (
        f"Where all layers share an array, every place has all {shared['kinds']} kinds of "
        f"multipliers that the choice uses: {ends[0]} % of the area of exact products. Engines of "
        f"their own need only the kinds of their layer: {ends[1]} %."
    )


def search_table(summary: Summary) -> PageTable:
    """Return what each search found, and what it took."""
    head = [
        "search",
        "measured",
        "measuring, s",
        "searching, s",
        "hypervolume",
        "best cost, %",
        "its accuracy, %",
    ]
    rows: list[list[PageCell | str]] = []
    for one in summary["searches"]:
        best = one["best"]
        rows.append(
            [
                one["search"],
                str(one["evaluations"]),
                f"{one['measuring_s']:.2f}",
                f"{one['thinking_s']:.2f}",
                f"{one['hypervolume']:.4f}",
                DASH if best is None else wording.percent(best["cost"]),
                DASH if best is None else _ends([best["low"], best["accs"][0], best["high"]]),
            ]
        )
    return make_table(head, rows, look="wide dense")


def levels_table(summary: Summary) -> PageTable:
    """Return the best choice at each cost, and the one that scores alone choose."""
    rows: list[list[PageCell | str]] = [
        [
            wording.percent(one["cost"]),
            wording.percent(one["best"]),
            wording.percent(one["predicted"]),
            wording.points(-one["gap"]),
            PageCell(one["best_choice"], "text"),
            PageCell(one["predicted_choice"], "text"),
        ]
        for one in summary["levels"]
    ]
    head = ["cost up to, %", "best, %", "by score, %", "points", "best choice", "choice by score"]
    return make_table(head, rows, look="dense")


def layer_table(summary: Summary) -> PageTable:
    """Return what makes a layer tolerant: gradients, kinds of error, zeros, size."""
    names = [one["name"] for one in summary["multipliers"]]
    shown = _middling(summary)
    total = sum(one["gradient"] for one in summary["scores"]["layers"]) or 1.0
    macs = summary["units"]["macs"]
    rows: list[list[PageCell | str]] = [
        [
            one["layer"],
            wording.percent(one["macs"] / macs),
            wording.percent(one["gradient"] / total),
            wording.percent(one["zeros"]),
            wording.figure(one["harm"][shown]),
            wording.percent(one["from_means"][shown]),
        ]
        for one in summary["scores"]["layers"][:MOST_LAYERS]
    ]
    head = [
        "layer",
        "products, %",
        "squared\ngradients, %",
        "zeros\nread, %",
        f"harm of\n{names[shown]}",
        "of that from\nmean errors, %",
    ]
    return make_table(head, rows, look="names dense")


def _middling(summary: Summary) -> int:
    """Return the number of a multiplier that does middling harm."""
    layers = summary["scores"]["layers"]
    totals = [sum(one["harm"][n] for one in layers) for n in range(len(summary["multipliers"]))]
    rough = sorted((n for n, total in enumerate(totals) if total > 0), key=lambda n: totals[n])
    return rough[len(rough) // 2] if rough else 0


def filter_table(summary: Summary) -> PageTable:
    """Return the filters that take a middling multiplier best, and worst."""
    rows: list[list[PageCell | str]] = []
    for tolerant, title in ((True, "tolerate most"), (False, "tolerate least")):
        own = [one for one in summary["scores"]["filters"] if one["tolerant"] == tolerant]
        if own:
            rows.append([title])
        rows += [
            [
                one["filter"],
                wording.figure(one["harm"]),
                wording.figure(one["gradient"]),
                wording.figure(one["mean"]),
                wording.figure(one["spread"]),
            ]
            for one in own
        ]
    head = ["filter", "share of harm", "squared\ngradients", "mean error,\nsteps", "spread,\nsteps"]
    return make_table(head, rows, look="names dense")


def multiplier_table(summary: Summary) -> PageTable:
    """Return the multipliers there were to choose from."""
    rows: list[list[PageCell | str]] = [
        [
            one["name"],
            PageCell(one["label"], "text"),
            wording.figure(one["power_mw"]),
            wording.figure(one["area_um2"]),
            wording.figure(one["delay_ns"]),
            wording.percent(one["mred"]),
            wording.figure(one["bias"]),
        ]
        for one in summary["multipliers"]
    ]
    head = ["name", "multiplier", "power, mW", "area, µm²", "delay, ns", "MRED, %", "bias"]
    return make_table(head, rows, look="names dense")


def predictor_table(summary: Summary) -> PageTable:
    """Return how well predictors tell what is measured of choices at random."""
    rows: list[list[PageCell | str]] = [
        [
            one["predictor"],
            PageCell(one["by"], "text"),
            str(one["choices"]),
            DASH if one["spearman"] is None else _plain(one["spearman"]),
            f"{100 * one['mae']:.2f}",
            f"{100 * one['coverage']:.0f}",
            f"{100 * one['width']:.2f}",
        ]
        for one in summary.get("predictors", ())
    ]
    head = [
        "predictor",
        "from",
        "choices",
        "Spearman",
        "mean absolute\nerror, points",
        "inside the 95 %\ninterval, %",
        "its width,\npoints",
    ]
    return make_table(head, rows, look="wide dense")


def load_table(summary: Summary) -> PageTable:
    """Return what each layer asks of the accelerator."""
    rows: list[list[PageCell | str]] = [
        [
            one["layer"],
            wording.grouped(one["macs"]),
            wording.grouped(one["multipliers"]),
            wording.grouped(one["cycles"]),
            wording.percent(one["utilisation"]),
            wording.grouped(one["bytes_moved"]),
            wording.figure(one["intensity"]),
            PageCell(one["bound"], "text"),
        ]
        for one in summary["load"][:MOST_LAYERS]
    ]
    head = [
        "layer",
        "products",
        "multipliers",
        "cycles",
        "used, %",
        "bytes",
        "products\nper byte",
        "bound by",
    ]
    return make_table(head, rows, look="names dense")


def _ends(interval: Sequence[float]) -> str:
    low, value, high = interval
    return f"{wording.percent(value)}\n{wording.percent(low)}–{wording.percent(high)}"


def _plain(interval: Sequence[float]) -> str:
    low, value, high = interval
    return f"{value:.3f}\n{low:.3f}–{high:.3f}"
