"""The report of a search over multipliers as one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitproof.core.directory import read_json
from bitproof.core.errors import DataError
from bitproof.core.files import write_text
from bitproof.report import html, wording
from bitproof.report.exploration_tables import (
    MOST_FRONT,
    chosen_table,
    elsewhere_table,
    elsewhere_text,
    filter_table,
    front_table,
    layer_table,
    levels_table,
    load_table,
    multiplier_table,
    predictor_table,
    search_table,
)
from bitproof.report.glossary import terms
from bitproof.report.html import REPORT, Alert, Tile
from bitproof.report.page_table import PageTable, facts_table, settings_table

EXPLORATION = "exploration.json"
PLAN = "plan.json"
EXPLORATION_SCHEMA = 1
"""Version of the summary."""
NEEDED: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("title", "model", "data", "network", "device"), str),
    **dict.fromkeys(("units", "exact", "scores", "images", "exploration"), dict),
    **dict.fromkeys(("seconds", "versions"), dict),
    **dict.fromkeys(("objectives", "multipliers", "searches", "front", "load"), list),
    **dict.fromkeys(("levels", "predictors", "elsewhere"), list),
    "chosen": (dict, type(None)),
    "held_out": (list, type(None)),
}
"""Parts of a summary, and what they are."""
INTERVAL = (
    "95 % interval",
    "Of accuracies: Student's t between chips where memory faults are drawn, else Wilson between "
    "images. Of predicted accuracy: that of the fitted curve, wider where left-out choices miss; "
    "of predicted figures: conformal.",
)
Summary = Mapping[str, Any]


def write_exploration_report(folder: Path, *, interactive: bool = False) -> Path:
    """Write `report.html` into the directory of a search and return its path.

    Raises:
        DataError: `exploration.json` is missing or damaged.
        StorageError: the disk is full, or the place cannot be written.
    """
    path, summary = folder / REPORT, read_exploration(folder)
    try:
        page = render_exploration(summary, interactive=interactive)
    except (KeyError, TypeError, IndexError) as error:  # of a part of the summary
        raise DataError(
            f"{folder / EXPLORATION}: damaged, or of another version ({error!r})"
        ) from None
    write_text(path, page)
    return path


def is_exploration(folder: Path) -> bool:
    """Tell whether a directory holds a search over multipliers, finished or not."""
    if (folder / EXPLORATION).is_file():
        return True
    path = folder / PLAN
    return path.is_file() and '"exploration"' in path.read_text(encoding="utf-8", errors="replace")


def read_exploration(folder: Path) -> Summary:
    """Return the summary of a search.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / EXPLORATION
    if not path.is_file():
        raise DataError(f"{folder}: wanted a finished search ({EXPLORATION}), there is none")
    summary = read_json(path, DataError)
    if summary.get("schema") != EXPLORATION_SCHEMA:
        raise DataError(f"{path}: schema {summary.get('schema')}, wanted {EXPLORATION_SCHEMA}")
    wrong = [
        n for n, kind in NEEDED.items() if n not in summary or not isinstance(summary[n], kind)
    ]
    if wrong:
        raise DataError(f"{path}: damaged, wanted {', '.join(wrong)}")
    return summary


def render_exploration(summary: Summary, *, interactive: bool = False) -> str:
    """Return the page; equal summaries give equal pages."""
    from bitproof.report.exploration_charts import (  # noqa: PLC0415 - slow to import
        exploration_figures,
    )

    drawn = exploration_figures(summary)
    return html.render("exploration.html.j2", _context(summary), drawn, interactive=interactive)


def _context(summary: Summary) -> dict[str, Any]:
    units, images = summary["units"], summary["images"]
    return {
        "brand": "multiplier search",
        "heading": summary["title"],
        "subtitle": [
            summary["model"] or f"model {wording.ABSENT}",
            f"data: {summary['data']}",
            f"{wording.count(units['count'], 'unit')}, {choices_text(units['log10_choices'])}",
            f"device: {summary['device'] or wording.ABSENT}",
            f"engine: {summary.get('engine') or wording.ABSENT}",
            f"time: {wording.seconds(_spent(summary))}",
        ],
        "alerts": _alerts(summary),
        "headline": headline(summary),
        "aside": "",
        "tiles": _tiles(summary),
        "images": images,
        "granularity": units["granularity"],
        "accelerator_name": _kind(summary["exploration"]["accelerator"]).capitalize(),
        "score_name": _kind(summary["exploration"]["score"]),
        "settings": settings_table(_settings(summary["exploration"])),
        "made_by": summary["versions"].get("bitproof") or f"(version {wording.ABSENT})",
        "glossary": terms(
            [
                *("unit", "score", "cost", "spatial", "hypervolume", "front", "mred"),
                *("ber", "chip", "interval"),
            ],
            {"interval": INTERVAL},
        ),
        "front": front_table(summary),
        "front_left": len(summary["front"]) - MOST_FRONT,
        "chosen": chosen_table(summary),
        "elsewhere": elsewhere_table(summary),
        "elsewhere_why": elsewhere_text(summary),
        "searches": search_table(summary),
        "levels": levels_table(summary),
        "layers": layer_table(summary),
        "filters": filter_table(summary),
        "multipliers": multiplier_table(summary),
        "predictors": predictor_table(summary),
        "load": load_table(summary),
        "environment": _environment(summary),
        "judged": summary["scores"]["judged"],
        "attacked": any(one["family"] == "input_attack" for one in summary["objectives"]),
    }


def _kind(component: Mapping[str, Any]) -> str:
    return str(component.get("kind", "unnamed")).replace("_", " ")


def _settings(exploration: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the settings of a search by component; what has none stands together at the end."""
    found: dict[str, Mapping[str, Any]] = {}
    rest: dict[str, Any] = {}
    for name, one in exploration.items():
        if isinstance(one, Mapping):
            found[name] = one
        elif isinstance(one, list) and one and all(isinstance(each, Mapping) for each in one):
            found |= {f"{name}, {number}": each for number, each in enumerate(one, 1)}
        else:
            rest[name] = one
    return {**found, "others": rest}


def _spent(summary: Summary) -> float:
    """Return how long scoring, searching and measuring took."""
    searches = (one["measuring_s"] + one["thinking_s"] for one in summary["searches"])
    return float(sum(summary["seconds"].values()) + sum(searches))


def choices_text(log10: float) -> str:
    """Return a number of choices in words.

    Example:
        >>> choices_text(1.505), choices_text(6.62)
        ('32 choices', '10^6.6 choices')
    """
    return f"{round(10**log10):,} choices" if log10 < 6 else f"10^{log10:.1f} choices"


def headline(summary: Summary) -> str:
    """Return what the search found, in one sentence."""
    chosen = summary["chosen"]
    if chosen is None:
        return "No measured choice meets the goal."
    exact = summary["exact"]["accs"][0][1]
    lost = exact - chosen["accs"][0]
    saved = 1 - chosen["cost"]
    return (
        f"The choice saves {wording.percent(saved)} % of the cost and "
        f"{'loses' if lost >= 0 else 'gains'} {wording.percent(abs(lost))} points of accuracy "
        f"({wording.percent(chosen['accs'][0])} of {wording.percent(exact)} %) on search images."
    )


def _alerts(summary: Summary) -> list[Alert]:
    found = []
    if summary["chosen"] is None:
        found.append(Alert("No choice", ["Name a larger budget, or a milder goal."]))
    sources = sorted({one["source"].split(":")[0] for one in summary["multipliers"]})
    if len(sources) > 1:
        found.append(Alert("Costs from several sources", sources))
    return found


def _tiles(summary: Summary) -> list[Tile]:
    chosen, tiles = summary["chosen"], []
    if chosen is not None:
        for name in ("power", "area", "latency"):
            lines = ["of exact products"]
            tiles.append(Tile(name.capitalize(), wording.percent(chosen[name]), "%", lines))
        if chosen["held_out"]:
            low, value, high = chosen["held_out"][0]
            ends = f"95 % interval {wording.percent(low)} to {wording.percent(high)} %"
            exact = summary["held_out"][0][1]
            lines = [ends, f"exact products {wording.percent(exact)} %", "images no search saw"]
            tiles.append(Tile("Accuracy", wording.percent(value), "%", lines))
    first = summary["searches"][0]
    lines = [f"{first['measuring_s'] + first['thinking_s']:.1f} s"]
    if "log10_speedup" in first:
        lines.append(f"all choices: {speedup_text(first['log10_speedup']['seconds'])} as long")
    tiles.append(Tile("Measured choices", str(first["evaluations"]), "", lines))
    return tiles


def speedup_text(log10: float) -> str:
    """Return a factor in words.

    Example:
        >>> speedup_text(1.2), speedup_text(6.52), speedup_text(3897.0)
        ('16 times', '3.3 million times', '10^3897 times')
    """
    if log10 < 4:
        return f"{10**log10:,.0f} times"
    if log10 < 9:
        return f"{10 ** (log10 - 6):.2g} million times"
    return f"10^{log10:.0f} times"


def _environment(summary: Summary) -> PageTable:
    figures = summary["exact"]["figures"]
    return facts_table(
        {
            "profile images": summary["images"]["profile"],
            "search images": summary["images"]["search"],
            "images no search saw": summary["images"]["held_out"],
            "profile, s": summary["seconds"].get("profile"),
            "scores, s": summary["seconds"].get("scores"),
            "exact products: power, mW": wording.figure(figures["power"]),
            "of which multipliers, mW": wording.figure(figures["multiplier_power"]),
            "exact products: area, µm²": wording.figure(figures["area"]),
            "exact products: latency, ms": wording.figure(figures["latency"]),
            "exact products: energy of an image, µJ": wording.figure(figures["energy"]),
            "costs": summary["exploration"]["costs"],
            "network (SHA-256)": summary["network"],
            "model": summary["model"],
            "data": summary["data"],
            "device": summary["device"],
            "engine": summary.get("engine"),
            "time": wording.seconds(_spent(summary)),
            **summary["versions"],
        }
    )
