"""A library of three circuits, in the format of `evoapprox8.npz`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Write = Callable[..., Path]


def entry(name: str, *, release: str, key: str, first: str) -> dict[str, Any]:
    """Return what the file says of one circuit."""
    columns = ("mae", "mae_pct", "wce", "wce_pct", "wcre_pct", "ep_pct", "mre_pct", "mse")
    cost = {"area_um2": 500.0, "pwr_mw": 0.25, "delay_ns": 1.25}
    names = {"name": name, "circuit": name, "releases": [release], "lut": key, "arg0": first}
    return {**names, **dict.fromkeys(columns, 0.0), **cost, "signed": False}


@pytest.fixture
def write_library(tmp_path: Path) -> Write:
    """Return a function that writes the library and returns its folder.

    Table `two` is a product whose first argument, the row, loses bit 0.
    """
    entries = [
        entry("mul8u_17C8", release="v1.1", key="one", first="A"),
        entry("mul8u_17C8", release="v2022", key="two", first="B"),
        entry("mul8u_X", release="v1.1", key="two", first="B"),
    ]
    codes = np.arange(256)

    def write(text: str | None = None, **arrays: np.ndarray) -> Path:
        content = json.dumps(entries) if text is None else text
        tables = {"one": np.outer(codes, codes), "two": np.outer(codes & ~1, codes)}
        stored = {name: table.astype(np.uint16) for name, table in tables.items()}
        rows = np.frombuffer(content.encode(), dtype=np.uint8)
        np.savez(tmp_path / "evoapprox8.npz", **{**stored, **arrays}, _table_json=rows)  # type: ignore[arg-type]
        return tmp_path

    return write
