"""Multiplier circuits side by side: the table, ratios, what faults do by block, and the drawings.

Source: Taheri et al., AdAM, ETS 2024, abstract: 63.54 % less area, 39.06 % lower power-delay
        product (METHODS C.1 tells why the reference of the area is open).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitproof.report.figures import (
    PALETTE,
    Figure,
    Spec,
    category,
    layer,
    make_figure,
    number,
    scale,
)

Row = Mapping[str, Any]
HEAD = (
    "circuit",
    "cells",
    "area",
    "delay",
    "power",
    "PDP",
    "MRED %",
    "NMED %",
    "covered: stuck %",
    "covered: flip %",
    "silent: stuck %",
    "silent: flip %",
)
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
PUBLISHED = (
    ("area over TMR", 0.365, "if 63.54 % less is meant against TMR"),
    ("area over exact", 0.793, "journal: 20.7 % less than exact"),
    ("PDP over exact", 0.609, "39.06 % less"),
)
"""Published ratios of AdAM, with how they are read."""
DIFFERENCES = (
    "what differs: nobody published AdAM's netlist, table of cases, library or operands, so the "
    "circuit is METHODS' reading of it; blocks are synthesized one by one, so that duplicates are "
    "not optimized away; no wires; power without glitches"
)


@dataclass(frozen=True)
class Published:
    """A published ratio beside ours."""

    what: str
    ours: float
    published: float
    reading: str


def table_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the main table."""
    return [
        [
            one["label"],
            str(one["cells"]),
            *(_amount(one[name], one[f"{name}_unit"]) for name in ("area", "delay", "power")),
            f"{one['pdp']:.4g}",
            f"{100 * one['mred']:.4g}",
            f"{100 * one['nmed']:.4g}",
            *(_share(one[kind], "coverage") for kind in ("permanent", "transient")),
            *(_share(one[kind], "silent") for kind in ("permanent", "transient")),
        ]
        for one in rows
    ]


def ratio_rows(rows: Sequence[Row], bases: Sequence[str]) -> list[list[str]]:
    """Return area and power-delay product over those of the circuits `bases`."""
    known = {one["label"]: one for one in rows}
    return [
        [
            one["label"],
            *(
                f"{one[name] / known[base][name]:.3f}" if known[base][name] else "-"
                for base in bases
                for name in ("area", "pdp")
            ),
        ]
        for one in rows
    ]


def published_rows(rows: Sequence[Row], *, adam: str, exact: str, voted: str) -> list[Published]:
    """Return AdAM's published ratios beside those of the rows."""
    known = {one["label"]: one for one in rows}
    ours = (
        known[adam]["area"] / known[voted]["area"],
        known[adam]["area"] / known[exact]["area"],
        known[adam]["pdp"] / known[exact]["pdp"],
    )
    pairs = zip(PUBLISHED, ours, strict=True)
    return [Published(what, own, value, reading) for (what, value, reading), own in pairs]


def block_rows(row: Row) -> list[list[str]]:
    """Return what faults in each block of one circuit do."""
    return [
        [
            name,
            str(block["faults"]),
            *(f"{100 * block[what]:.1f}" for what in ("masked", "mitigated", "detected", "silent")),
            f"{block['mean_distance']:.0f}",
            str(block["largest"]),
        ]
        for name, block in row["blocks"].items()
    ]


def circuit_figures(rows: Sequence[Row]) -> list[Figure]:
    """Return all drawings of circuits side by side."""
    return [*trade_off_figures(rows), *magnitude_figures(rows)]


def trade_off_figures(rows: Sequence[Row]) -> list[Figure]:
    """Return area and power-delay product against vulnerability, for both kinds of faults."""
    spots = [
        {
            "circuit": f"{place} {one['label']}",
            "number": str(place),
            "area": one["area"],
            "pdp": one["pdp"],
            "stuck": 100 * one["permanent"]["vulnerability"],
            "flip": 100 * one["transient"]["vulnerability"],
        }
        for place, one in enumerate(rows, 1)
        if one["permanent"] and one["transient"]
    ]
    if not spots:
        return []
    units = {
        "area": rows[0]["area_unit"],
        "pdp": f"{rows[0]['power_unit']} x {rows[0]['delay_unit']}",
    }
    titles = {"area": f"area, {units['area']}", "pdp": f"power-delay product, {units['pdp']}"}
    kinds = {"stuck": "nets held at 0 or 1", "flip": "nets turned over for one operation"}
    return [
        make_figure(
            "circuits",
            f"{cost}-{kind}",
            f"{titles[cost].split(',')[0].capitalize()} against vulnerability: {kinds[kind]}",
            _trade_off(spots, cost, titles[cost], kind),
        )
        for cost in titles
        for kind in kinds
    ]


def magnitude_figures(rows: Sequence[Row]) -> list[Figure]:
    """Return the share of cases that are off by a distance and more, for both kinds of faults."""
    kinds = {"permanent": "nets held at 0 or 1", "transient": "nets turned over for one operation"}
    names = [f"{place} {one['label']}" for place, one in enumerate(rows, 1)]
    figures = []
    for kind, words in kinds.items():
        points = [
            {"circuit": name, "distance": 2**place, "share": 100 * sum(own["magnitudes"][place:])}
            for name, one in zip(names, rows, strict=True)
            if (own := one[kind]) is not None
            for place in range(len(own["magnitudes"]))
        ]
        spec: Spec = {
            "width": 460,
            "height": 300,
            "data": {"values": points},
            "mark": {"type": "line", "interpolate": "step-after"},
            "encoding": {
                "x": number(
                    "distance",
                    title="|faulty - fault-free product|",
                    scale={"type": "log", "base": 2},
                ),
                "y": number("share", title="cases off by that and more, %"),
                "color": category("circuit", scale=scale(names, PALETTE)),
                "strokeDash": category("circuit", scale=scale(names, DASHES)),
            },
        }
        title = f"How far products are off: {words}"
        figures.append(make_figure("circuits", f"magnitude-{kind}", title, spec))
    return figures


def _trade_off(spots: Sequence[Spec], cost: str, title: str, kind: str) -> Spec:
    names = [spot["circuit"] for spot in spots]
    colour = category(
        "circuit",
        scale=scale(names, PALETTE),
        legend={"orient": "right", "title": None},
    )
    return {
        "width": 460,
        "height": 340,
        "data": {"values": list(spots)},
        "encoding": {
            "x": number(cost, title=title, scale={"zero": True}),
            "y": number(kind, title="cases that go wrong, %", scale={"zero": True}),
            "color": colour,
            "shape": category("circuit", scale=scale(names, SHAPES)),
            "tooltip": [category("circuit"), number(cost), number(kind)],
        },
        "layer": [
            layer("point", encoding={}, filled=True, size=80, opacity=0.9),
            layer("text", encoding={"text": {"field": "number"}}, dx=9, fontSize=10),
        ],
    }


def _amount(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}"


def _share(one: Row | None, what: str) -> str:
    if one is None:
        return "-"
    if one["low"] is None or what != "coverage":
        return f"{100 * one[what]:.1f}"
    return f"{100 * one[what]:.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
