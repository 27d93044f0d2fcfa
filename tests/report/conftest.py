"""Run directories as a campaign would leave them, with made-up but plausible numbers."""

import base64
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bitproof.stats.intervals import wilson
from bitproof.stats.results import Row, write_results
from tests.report.matrix_runs import write_matrix_run

VARIANTS = ("float", "baseline", "s1", "s2", "s1+s2", "s2+s1", "s1+s2+s3")
BERS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
EPSILONS = (2 / 255, 4 / 255, 8 / 255, 16 / 255)

OUTCOMES = ("masked", "sdc1", "sdc5", "sdc10", "sdc20", "due")

THREATS = {
    "random_flips": {"family": "memory_fault", "title": "Random bit flips", "symbol": "BER"}
    | {"notation": "scientific"},
    "linf_pgd": {"family": "input_attack", "title": "L∞ PGD", "symbol": "ε"}
    | {"notation": "pixels"},
}

VOID = {"meta", "col", "br", "wbr", "img", "link"}

MakeRun = Callable[..., Path]
MakeCampaign = Callable[..., Path]


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.script = ""
        """The first script of the page: its data, if it has any."""
        self.programs: list[str] = []
        """Scripts that run."""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.is_data = ("type", "application/json") in attrs
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.script = self.script or data
            if self.tags[-1] == "script" and not self.is_data:
                self.programs.append(data)
        elif inside != "style":
            self.text += data

    def assert_harmless(self) -> None:
        """Check that a page asks for nothing and runs no script but its own, known by digest."""
        assert not {"link", "img", "iframe", "object", "image", "use"} & set(self.tags)
        followed = {v for n, v in self.attributes if n in {"src", "href", "xlink:href"}}
        assert all(re.fullmatch(r"#[a-z0-9-]+", one) for one in followed), followed
        places = [v for n, v in self.attributes if n == "id"]
        assert len(places) == len(set(places))
        assert {one[1:] for one in followed} <= set(places)
        assert not [name for name, _ in self.attributes if name.startswith("on")]
        digests = [
            f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
            for one in self.programs
        ]
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(digests)}"
        assert ("content", policy) in self.attributes

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def look() -> Callable[[Path], Page]:
    """Return the function that reads a page."""
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run directory and returns its path."""

    def write(**changes: Any) -> Path:
        return write_run(tmp_path / "run", **changes)

    return write


@pytest.fixture
def run_dir(make_run: MakeRun) -> Path:
    """Return a complete run: seven variants, six bit error rates, four epsilons."""
    return make_run()


@pytest.fixture(scope="session")
def finished_matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with every family of threat; nobody writes into it."""
    return write_matrix_run(tmp_path_factory.mktemp("matrix") / "run")


@pytest.fixture
def matrix_dir(finished_matrix: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may write into."""
    return Path(shutil.copytree(finished_matrix, tmp_path / "run"))


@pytest.fixture
def make_campaign(tmp_path: Path) -> MakeCampaign:
    """Return a function that writes the summary of a campaign and returns its directory."""

    def write(summary: dict[str, Any] | None = None, **options: Any) -> Path:
        folder = tmp_path / "campaign"
        folder.mkdir(exist_ok=True)
        told = made_up_summary(**options) if summary is None else summary
        (folder / "summary.json").write_text(json.dumps(told), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def summary() -> Callable[..., dict[str, Any]]:
    """Return the function that makes a summary up."""
    return made_up_summary


def made_up_summary(
    *, n_layers: int = 60, bits: int = 8, rates: Sequence[float] = (), together: bool = False
) -> dict[str, Any]:
    """Return a campaign of single flips, a layer of which was not tried, and one of each rate."""
    layers = [f"layer{1 + i // 16}.{i // 2 % 8}.conv{1 + i % 2}" for i in range(n_layers)]
    grid = []
    for i, layer in enumerate(layers):
        for bit in range(bits):
            chance = 0.4 * math.exp(-0.9 * (bits - 1 - bit) - i / 25)
            trials = 0 if (i, bit) == (3, 0) else 20
            found = {"population": 36_864, **made_up_counts(chance, trials)}
            grid.append({"group": 0, "site": "weight", "layer": layer, "bit": bit, **found})
    single = {"group": 0, "label": "flip in weight", "kind": {"kind": "flip"}, "sites": ["weight"]}
    groups = [single | {"extent": "one place", "rate": None, "population": 36_864 * len(grid)}]
    groups += [
        {"group": i, "label": f"flip in weight, rate {rate:g}", "kind": {"kind": "flip"}}
        | {"sites": ["weight"], "extent": f"rate {rate:g}", "rate": rate, "population": 36_864}
        for i, rate in enumerate(rates, 1)
    ]
    steps = [2**i for i in range(3, 14)]
    ends = [wilson(round(0.04 * n), n) for n in steps]
    return {
        "schema": 1,
        "campaign": {
            **{"title": "Single flips in ResNet", "model": "resnet18", "data": "cifar10"},
            **{"images": 64, "trials": 9584, "planned": 9604, "stopped": True, "margin": 0.01},
            **{"confidence": 0.95, "interval": "wilson", "together": together, "seed": 0},
            **{"protections": [{"kind": "secded", "sites": ["weight"]}], "engine": "oneDNN int8"},
            **{"golden_acc": [0.93, 0.951, 0.967], "device": "cpu", "seconds": 123.4},
            "versions": {"bitproof": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.9"},
        },
        "groups": [
            one | {"trials": 9584, "needed": 9604, "bits_of_memory": None} for one in groups
        ],
        "outcomes": list(OUTCOMES),
        "totals": [
            {
                "group": -1 if together else i,
                "population": 36_864,
                **made_up_counts(0.04 + 30 * rate, 9584),
            }
            | {"acc": wilson(round(95 * math.exp(-400 * rate)), 100), "acc_std": 0.05}
            | {"acc_min": 0.1, "rerr": wilson(9, 100), "fit": [1.5, 2.5, 3.5]}
            for i, rate in enumerate([0.0, *rates][: 1 if together else None])
        ],
        "layers": [
            {"group": 0, "site": "weight", "layer": layer, "population": 36_864 * bits}
            | made_up_counts(0.1 * math.exp(-i / 25), 160)
            for i, layer in enumerate(layers)
        ],
        "bits": [
            {"group": 0, "site": "weight", "bit": bit, "population": 36_864 * n_layers}
            | made_up_counts(0.3 * math.exp(-0.9 * (bits - 1 - bit)), 1200)
            for bit in range(bits if n_layers else 0)
        ],
        "cells": grid,
        "channels": [
            {"group": 0, "site": "weight", "layer": layer, "channel": 7, "trials": 9, "images": 64}
            | {"rates": {"sdc1": wilson(5, 9)}}
            for layer in layers[:3]
        ],
        "convergence": [
            {"group": -1 if together else 0, "outcome": "sdc1", "trials": steps}
            | {"low": [end.low for end in ends], "value": [end.value for end in ends]}
            | {"high": [end.high for end in ends]}
        ],
    }


def made_up_counts(chance: float, trials: int) -> dict[str, Any]:
    """Return trials, images and the rates of all outcomes, given that of SDC-1."""
    shares = (1 - 2 * chance, chance, 0.4 * chance, 1.2 * chance, chance, 0.0)
    rates = {
        name: list(wilson(min(round(max(share, 0) * trials), trials), trials))
        for name, share in zip(OUTCOMES, shares, strict=True)
        if trials
    }
    return {"trials": trials, "images": 64, "rates": rates, "fit": None}


def write_run(
    folder: Path,
    *,
    variants: Sequence[str] = VARIANTS,
    bers: Sequence[float] = BERS,
    epsilons: Sequence[float] = EPSILONS,
    n_layers: int = 12,
    rows: Sequence[Row] | None = None,
    facts: dict[str, Any] | None = None,
    recipe: str | None = None,
) -> Path:
    """Write a whole run directory; `facts` overrides keys of run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    table = rows if rows is not None else made_up_rows(variants, bers, epsilons)
    write_results(table, folder / "results.csv")
    told = {**made_up_facts(variants), **(facts or {})}
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "recipe.toml").write_text(recipe or RECIPE, encoding="utf-8")
    (folder / "records").mkdir(exist_ok=True)
    for variant in variants:
        if variant.startswith("s"):
            record = {"stages": [made_up_record(stage, n_layers) for stage in variant.split("+")]}
            (folder / "records" / f"{variant}.json").write_text(json.dumps(record))
    return folder


def made_up_rows(
    variants: Sequence[str], bers: Sequence[float], epsilons: Sequence[float]
) -> list[Row]:
    """Return rows in which s2 helps against both threats and s1 only against attacks."""
    rows: list[Row] = []
    for variant in variants:
        stages = variant.split("+")
        clean = 0.965 - 0.012 * ("s1" in stages) - 0.003 * ("s2" in stages)
        rows.append(row(variant, "clean", 0.0, clean, n=1800))
        if variant != "float":
            knee = -3.0 + 0.55 * ("s2" in stages) + 0.3 * ("s3" in stages)
            found = []
            for ber in bers:
                share = 1 / (1 + math.exp(-3.2 * (knee - math.log10(ber))))
                value = 0.1 + (clean - 0.1) * share
                spread = 0.002 + 0.12 * share * (1 - share)
                found.append(value)
                half = 1.96 * spread / math.sqrt(50)
                rows.append(row(variant, "random_flips", ber, value, half=half, n=50))
                rows.append(number(variant, "random_flips", ber, "acc_std", spread, n=50))
                worst = max(value - 2.2 * spread, 0.0)
                rows.append(number(variant, "random_flips", ber, "acc_min", worst, n=50))
            mean = sum(found) / len(found)
            rows.append(number(variant, "random_flips", None, "auc_fr", mean, n=50))
        strength = 0.09 - 0.055 * ("s1" not in stages) + 0.012 * ("s2" in stages)
        rows += [
            row(
                variant, "linf_pgd", epsilon, clean * math.exp(-((epsilon / strength) ** 2)), n=1000
            )
            for epsilon in epsilons
        ]
    return rows


def row(
    variant: str, threat: str, level: float, value: float, *, n: int, half: float | None = None
) -> Row:
    width = half if half is not None else 1.96 * math.sqrt(value * (1 - value) / n)
    low, high = max(value - width, 0.0), min(value + width, 1.0)
    return Row(variant, threat, level, "acc", value, low, high, n)


def number(
    variant: str, threat: str, level: float | None, metric: str, value: float, *, n: int
) -> Row:
    return Row(variant, threat, level, metric, value, n=n)


def made_up_facts(variants: Sequence[str]) -> dict[str, Any]:
    """Return a complete run.json."""
    return {
        "schema": 1,
        "bitproof": "0.1.0",
        "torch": "2.13.0+cpu",
        "python": "3.11.9",
        "numpy": "2.3.1",
        "platform": "Linux-6.1-x86_64",
        "device": "cpu",
        "threads": 2,
        "digest": "13f0ce14" * 8,
        "recipe_name": "digits_resq",
        "title": "Three-stage hardening of a small ResNet on digits",
        "data": {"name": "digits", "digest": "ab12" * 16, "n_train": 1257, "n_test": 540},
        "model": {"kind": "resnet_tiny", "parameters": 77850},
        "started": "2026-11-21T10:00:00+00:00",
        "finished": "2026-11-21T10:42:10+00:00",
        "durations": {f"measure {name} under faults": 21.5 + i for i, name in enumerate(variants)}
        | {f"train {name}": 95.0 + 7 * i for i, name in enumerate(variants)},
        "warnings": [
            "s1: black-box Square finds more errors than PGD at 8/255 (masked gradients?)"
        ],
        "variants": list(variants),
        "stages": {
            "s1": {"kind": "desensitize", "epsilon": 0.03137, "steps": 7, "epochs": 10},
            "s2": {"kind": "fault_aware", "ber": 0.001, "top": 5, "beta": 0.9, "epochs": 10},
            "s3": {"kind": "adjust", "mu": 1.0, "max_loss": 0.005},
        },
        "baseline": "baseline",
        "threats": THREATS,
    }


def made_up_record(stage: str, n_layers: int) -> dict[str, Any]:
    """Return what one stage writes down."""
    layers = [f"layer{1 + i // 4}.{i % 4}.conv" for i in range(n_layers)]
    if stage == "s3":
        alpha = {
            name: {"chosen": 0.55 + 0.01 * (i % 40), "accepted": i % 5 != 0}
            | {"acc_before": 0.412, "acc_after": 0.412 - 0.002 * (i % 5 == 0)}
            for i, name in enumerate(layers)
        }
        return {"stage": stage, "kind": "adjust", "record": {"alpha": alpha}}
    record: dict[str, Any] = {
        "loss": [0.9 * math.exp(-epoch / 4) + 0.2 for epoch in range(10)],
        "acc": [0.95 - 0.3 * math.exp(-epoch / 3) for epoch in range(10)],
        "odd": {"nobody": ["knows", None]},
    }
    if stage == "s2":
        scores = [
            [(1.5 + math.sin(i * 2.1 + epoch / 5)) / (1 + i / 6) for i in range(n_layers)]
            for epoch in range(10)
        ]
        ranked = [sorted(range(n_layers), key=lambda i: -each[i])[:5] for each in scores]
        top = [[layers[i] for i in chosen] for chosen in ranked]
        record["critical"] = {"layers": layers, "scores": scores, "top": top}
    return {"stage": stage, "kind": "desensitize" if stage == "s1" else "fault_aware"} | {
        "record": record
    }


RECIPE = """name = "digits_resq"
title = "Three-stage hardening"  # complete, with defaults

[data]
kind = "digits"

[faults]
kind = "random_flips"
ber = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2]
"""
