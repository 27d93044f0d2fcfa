"""Multiplier circuits side by side: the table, ratios, what faults do by block, and the drawings.

Source: Taheri et al., AdAM, ETS 2024, abstract: 63.54 % less area, 39.06 % lower power-delay
        product (METHODS C.1 tells why the reference of the area is open).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number

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
    """Return area, power-delay product and vulnerability over those of the circuits `bases`."""
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


def trade_off_figures(rows: Sequence[Row]) -> list[Figure]:
    """Return area and power-delay product against vulnerability, for both kinds of faults."""
    spots = [
        {
            "circuit": one["label"],
            "area": one["area"],
            "pdp": one["pdp"],
            "stuck": 100 * one["permanent"]["vulnerability"],
            "flip": 100 * one["transient"]["vulnerability"],
        }
        for one in rows
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


def _trade_off(spots: Sequence[Spec], cost: str, title: str, kind: str) -> Spec:
    text = {"text": {"field": "circuit"}}
    return {
        "width": 520,
        "height": 340,
        "data": {"values": list(spots)},
        "encoding": {
            "x": number(cost, title=title, scale={"zero": True, "padding": 20}),
            "y": number(kind, title="cases that go wrong, %", scale={"zero": True}),
            "tooltip": [category("circuit"), number(cost), number(kind)],
        },
        "layer": [
            layer("point", encoding={}, filled=True, size=70),
            layer("text", encoding=text, dx=6, dy=-7, align="left", fontSize=10),
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
