"""A made-up run with every family of threat, and the counts behind each of its numbers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitproof.core.flags import pack_flags
from bitproof.stats.intervals import mean_interval, wilson
from bitproof.stats.results import Row, write_results

NETWORKS = ("float", "baseline", "s1", "randbet", "at", "s1+s2", "mul", "all+mul")
MULTIPLIED = ("mul", "all+mul")
STRENGTHS = {
    "memory_fault": {"randbet": 0.3, "s1+s2": 0.4, "all+mul": 0.35},
    "compute_fault": {"randbet": 0.6, "s1+s2": 0.5},
    "bit_flip_attack": {"randbet": 0.5, "at": 1.2, "all+mul": 0.5},
    "input_attack": {"at": 0.4, "s1": 0.5, "s1+s2": 0.5, "all+mul": 0.45},
    "hardware": {"mul": 0.2, "all+mul": 0.1},
    "crossing": {"at": 0.7, "s1+s2": 0.6, "all+mul": 0.5},
    "none": {},
}
"""How strongly networks suffer, where it is less or more than one."""
IMAGES = 200


@dataclass(frozen=True)
class Threatened:
    """A threat of the made-up run."""

    name: str
    family: str
    title: str
    levels: tuple[float, ...] = (0.0,)
    symbol: str = "level"
    notation: str = "plain"
    unit: str = "image"
    trials: int = 1
    harm: float = 0.6
    """Logarithm of the accuracy that it takes at its middle level, by and large."""
    lacking: Sequence[str] = ("float",)
    """Networks without a cell."""

    @property
    def label(self) -> dict[str, str]:
        """What run.json tells of it."""
        names = ("family", "title", "symbol", "notation", "unit")
        return {name: getattr(self, name) for name in names}


CLEAN = Threatened("clean", "none", "Clean", harm=0.0, lacking=())
THREATS = (
    CLEAN,
    Threatened(
        *("pgd", "input_attack", "L∞ PGD", (2 / 255, 4 / 255), "ε", "pixels"), harm=0.8, lacking=()
    ),
    Threatened("apgd", "input_attack", "L∞ APGD", (1 / 255,), "ε", "pixels", harm=1.2),
    Threatened(
        *("flips", "memory_fault", "Random bit flips", (1e-3, 3e-3, 1e-2), "BER", "scientific"),
        *("chip", 6),
    ),
    Threatened(
        "registers",
        "compute_fault",
        "Transient faults in registers",
        unit="draw",
        trials=20,
        harm=0.2,
        lacking=("float", *MULTIPLIED),
    ),
    Threatened(
        *("bfa", "bit_flip_attack", "BFA", (1.0, 5.0, 10.0), "flips", "plain", "batch", 5), harm=0.5
    ),
    Threatened("one_multiplier", "hardware", "One multiplier", harm=0.15),
    Threatened(
        *("pgd_on_chip", "crossing", "L∞ PGD, on chips with BER 10⁻³", (2 / 255,), "ε", "pixels"),
        *("chip", 5, 0.9),
    ),
)


def write_matrix_run(
    folder: Path,
    *,
    networks: Sequence[str] = NETWORKS,
    threats: Sequence[Threatened] = THREATS,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write a finished run directory: results, counts of single trials, facts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    lines: list[dict[str, Any]] = []
    for name in networks:
        for threat in threats:
            if name not in threat.lacking:
                found = measure(name, threat)
                lines += found
                rows += rows_of(name, threat, found)
    write_results(rows, folder / "results.csv")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "tallies.jsonl").write_text(text, encoding="utf-8")
    told = {
        **{"schema": 1, "bitproof": "0.1.0", "recipe_name": "matrix", "title": "The matrix"},
        **{"finished": "2026-11-30T10:42:10+00:00", "warnings": [], "baseline": "baseline"},
        **{"data": {"name": "digits"}, "model": {"kind": "digits_cnn", "parameters": 23738}},
        "variants": list(networks),
        "stages": {"s1": {"kind": "desensitize"}, "randbet": {"kind": "randbet"}},
        "multipliers": {"mul": {"label": "drum5", "power_share": 0.45}},
        "threats": {one.name: one.label for one in threats},
        **(facts or {}),
    }
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def measure(name: str, threat: Threatened) -> list[dict[str, Any]]:
    """Return the lines of `tallies.jsonl` of one network under one threat."""
    clean = 0.95 - 0.02 * (name in {"s1", "s1+s2"}) - 0.04 * (name == "at")
    suffers = STRENGTHS[threat.family].get(name, 1.0)
    middle = max(threat.levels[len(threat.levels) // 2], 1e-12)
    lines = []
    for level in threat.levels:
        for trial in range(threat.trials):
            # Networks share what is hard about a trial and an image.
            shared = np.random.default_rng([7, trial, sum(map(ord, threat.name))])
            own = np.random.default_rng([trial, sum(map(ord, name + threat.name))])
            harm = threat.harm * suffers * (level / middle if level else 1.0)
            luck = shared.uniform(0.8, 1.2) * own.uniform(0.9, 1.1)
            chance = clean * np.exp(-harm * luck)
            hard = 0.7 * shared.random(IMAGES) + 0.3 * own.random(IMAGES)
            right = (hard < np.quantile(hard, chance)).astype(np.uint8)
            line = {"variant": name, "threat": threat.name, "level": level, "trial": trial}
            line |= {"correct": int(right.sum()), "total": IMAGES, "seconds": 0.25}
            if threat.unit == "image":
                line["right"] = pack_flags(right.tobytes())
            lines.append(line)
    return lines


def rows_of(name: str, threat: Threatened, lines: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows of `results.csv` that the evaluation makes of counts."""
    rows = []
    for level in threat.levels:
        found = [line["correct"] for line in lines if line["level"] == level]
        accs = [correct / IMAGES for correct in found]
        ends = mean_interval(accs)
        if threat.unit == "image":
            ends = wilson(sum(found), IMAGES * len(found))
        n = IMAGES if threat.unit == "image" else len(found)
        low, value, high = ends
        rows.append(Row(name, threat.name, level, "acc", value, low, high, n))
        if threat.unit != "image":
            rows.append(Row(name, threat.name, level, "acc_min", min(accs), n=n))
        if threat.unit == "draw":
            rows.append(Row(name, threat.name, level, "sdc1", 0.1, 0.05, 0.17, n))
    return rows


def counted(lines: Sequence[dict[str, Any]], level: float) -> np.ndarray:
    """Return the accuracy of each trial at one level, in their order."""
    found = [line for line in lines if line["level"] == level]
    return np.array([line["correct"] / line["total"] for line in found])
