"""Tables and drawings of circuits, from rows as the command writes them."""

import json
from typing import Any

import pytest

from bitproof.report.circuits import (
    block_rows,
    circuit_figures,
    published_rows,
    ratio_rows,
    table_rows,
)


def reliability(coverage: float, *, low: float | None = None) -> dict[str, Any]:
    """Return what faults do."""
    return {
        **{"faults": 10, "masked": coverage, "mitigated": 0.0, "detected": 0.0},
        **{"silent": 1 - coverage, "coverage": coverage, "vulnerability": 1 - coverage},
        **{"mean_distance": 12.4, "largest": 99, "magnitudes": [0.0, 1 - coverage]},
        **{"low": low, "high": None if low is None else 0.9},
    }


def row(label: str, area: float, pdp: float, coverage: float, **more: Any) -> dict[str, Any]:
    """Return the figures of one circuit."""
    return {
        **{"label": label, "cells": 5, "area": area, "area_unit": "um2", "delay": 2.0},
        **{"delay_unit": "ns", "power": 0.5, "power_unit": "mW", "pdp": pdp},
        **{"mred": 0.01234, "nmed": 0.002, "permanent": reliability(coverage)},
        **{"transient": reliability(coverage / 2, low=0.2), "blocks": {"lod": reliability(0.75)}},
        **more,
    }


ROWS = [
    row("exact", 100.0, 4.0, 0.5),
    row("TMR of exact", 300.0, 12.0, 0.98),
    row("AdAM", 66.0, 3.0, 0.7),
]


def test_cells_have_units_and_intervals_where_pairs_were_sampled() -> None:
    (cells, *_) = table_rows(ROWS)
    assert cells == [
        *["exact", "5", "100 um2", "2 ns", "0.5 mW", "4", "1.234", "0.2"],
        *["50.0", "25.0 (20.0 to 90.0)", "50.0", "75.0"],
    ]


def test_a_circuit_without_faults_has_dashes() -> None:
    (cells,) = table_rows([row("wire", 0.0, 0.0, 1.0, permanent=None, transient=None)])
    assert cells[-4:] == ["-"] * 4
    assert circuit_figures([row("wire", 0.0, 0.0, 1.0, permanent=None, transient=None)])[2:] == []


def test_ratios_are_to_the_named_circuits() -> None:
    rows = ratio_rows(ROWS, ("exact", "TMR of exact"))
    assert rows[2] == ["AdAM", "0.660", "0.750", "0.220", "0.250"]
    found = published_rows(ROWS, adam="AdAM", exact="exact", voted="TMR of exact")
    assert [each.ours for each in found] == pytest.approx([0.22, 0.66, 0.75])
    assert [each.published for each in found] == [0.365, 0.793, 0.609]


def test_blocks_tell_what_is_not_protected() -> None:
    assert block_rows(ROWS[2]) == [["lod", "10", "75.0", "0.0", "0.0", "25.0", "12", "99"]]


def test_drawings_have_a_point_for_each_circuit_and_a_line_for_each_distribution() -> None:
    figures = circuit_figures(ROWS)
    assert [each.name for each in figures] == [
        *["area-stuck", "area-flip", "pdp-stuck", "pdp-flip"],
        *["magnitude-permanent", "magnitude-transient"],
    ]
    points = json.loads(figures[0].spec)["data"]["values"]
    assert [(p["circuit"], p["area"], p["stuck"]) for p in points] == [
        ("1 exact", 100.0, 50.0),
        ("2 TMR of exact", 300.0, pytest.approx(2.0)),
        ("3 AdAM", 66.0, pytest.approx(30.0)),
    ]
    lines = json.loads(figures[4].spec)["data"]["values"]
    own = [(p["distance"], p["share"]) for p in lines if p["circuit"] == "1 exact"]
    assert own == [(1, 50.0), (2, 50.0)]
