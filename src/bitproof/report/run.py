"""A run directory as one value: facts, rows, counts, stage records and the recipe text."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bitproof.core.errors import DataError
from bitproof.core.files import read_bytes
from bitproof.core.spec import describe_problems
from bitproof.report.tallies import Measurement, read_tallies
from bitproof.stats.results import Row, as_written, read_results
from bitproof.stats.threats import FAMILIES, ThreatLabel

SCHEMA = 1
FLOAT = "float"
"""The variant that was never quantized."""
CLEAN = "clean"
"""The threat that changes nothing."""
APPROXIMATE = "approximate"
"""Kind of the stages that choose multipliers."""
REQUANTIZE = "requantize"
"""Kind of the stages that only quantize in another way."""
TRAINED_FOR = "approximation_aware"
"""Kind of the stages that train for the multipliers chosen before, or for exact products."""
AGAINST = ("ber", "lam_adv")
"""Parameters by which such training is also training against faults or attacks."""
Condition = tuple[str, float]
"""A threat at a level."""


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


Finite = Annotated[float | None, AfterValidator(_finite)]


class MultiplierFacts(BaseModel):
    """What `run.json` tells of one multiplier; every figure may be missing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str | None = None
    signed: bool | None = None
    """Whether it takes signed operands, with all that stands around its circuit."""
    circuit_signed: bool | None = None
    """Whether the circuit itself does, to which the costs belong; absent in old files."""
    power_mw: Finite = None
    area_um2: Finite = None
    delay_ns: Finite = None
    source: str | None = None
    """Where the three costs come from."""
    power_share: Finite = None
    """Power as a share of that of the exact circuit, by counting gates that switch."""
    med: Finite = None
    nmed: Finite = None
    mred: Finite = None
    ep: Finite = None
    bias: Finite = None

    @property
    def circuit(self) -> str:
        """What kind of circuit multiplies, in words.

        Example:
            >>> MultiplierFacts(signed=True, circuit_signed=False).circuit
            'unsigned circuit between sign bits'
            >>> MultiplierFacts(signed=True).circuit
            'signed circuit'
        """
        signed = self.signed if self.circuit_signed is None else self.circuit_signed
        if signed is None:
            return "circuit of unknown kind"
        if signed:
            return "signed circuit"
        return f"unsigned circuit{' between sign bits' if self.signed else ''}"


class Facts(BaseModel):
    """What `run.json` tells; every key may be missing, unknown keys are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    layout: int = Field(default=SCHEMA, alias="schema")
    bitproof: str | None = None
    torch: str | None = None
    python: str | None = None
    numpy: str | None = None
    platform: str | None = None
    device: str | None = None
    engine: str | None = None
    """Who computed: this process, or how many others."""
    threads: int | None = None
    digest: str | None = None
    recipe_name: str | None = None
    title: str | None = None
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    weights: str | None = None
    """The file that it starts from, and what was taken of it; None: trained from random ones."""
    started: str | None = None
    finished: str | None = None
    durations: dict[str, float] = {}
    warnings: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ()
    networks: dict[str, str] = {}
    """The digest of each network; equal ones are measured once."""
    stages: dict[str, dict[str, Any]] = {}
    multipliers: dict[str, MultiplierFacts] = {}
    """Approximate multipliers, by the name that variants use."""
    baseline: str = "baseline"
    threats: dict[str, ThreatLabel] = {}
    """What each threat of the table is, and how it is written."""


ANALYSIS = "analysis.json"
"""What `bitproof analyze` keeps in a run directory."""


@dataclass(frozen=True)
class Run:
    """What the report tells about, read once."""

    facts: Facts
    rows: tuple[Row, ...]
    recipe: str | None
    records: Mapping[str, Any]
    """Content of `records/<variant>.json`, by variant."""
    measurements: tuple[Measurement, ...] = ()
    """Counts of single measurements, where they are kept."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Content of `statistics/<variant>.json`, by variant."""
    analysis: Any = None
    """Content of `analysis.json`, where networks were analyzed."""

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, float | None, str], Row]:
        return {(row.variant, row.threat, row.level, row.metric): row for row in self.rows}

    @cached_property
    def trials(self) -> Mapping[tuple[str, str, float], Mapping[int, Measurement]]:
        """Counts of single trials by network (see `network_of`), threat and level, by trial.

        Levels are those of the result table, which has fewer digits than the log of counts.
        """
        found: dict[tuple[str, str, float], dict[int, Measurement]] = {}
        for one in self.measurements:
            if one.reference:
                continue  # on other images than the trial of the same name
            key = (self.network_of(one.variant), one.threat, as_written(one.level))
            found.setdefault(key, {})[one.trial] = one
        return found

    @cached_property
    def references(self) -> Mapping[tuple[str, int], Measurement]:
        """Clean counts by network (see `network_of`) and number of images, the first ones."""
        clean = {CLEAN, *(t for t, label in self.facts.threats.items() if label.family == "none")}
        return {
            (self.network_of(one.variant), one.total): one
            for one in self.measurements
            if one.threat in clean
        }

    def network_of(self, variant: str) -> str:
        """Return what a network is known by: equal ones share their counts."""
        return self.facts.networks.get(variant, variant)

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """All variants: first those that were planned, then others that have results."""
        return tuple(dict.fromkeys([*self.facts.variants, *(row.variant for row in self.rows)]))

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Variants without any result."""
        measured = {row.variant for row in self.rows}
        return tuple(name for name in self.variants if name not in measured)

    @cached_property
    def full(self) -> str | None:
        """The hardened variant with the most stages, the later one of equals; None without any.

        Only exact products count: with a multiplier, two things differ from the baseline at once.
        """
        exact = [v for v in self.variants if self.is_hardened(v) and not self.is_approximate(v)]
        return max(reversed(exact), key=lambda v: len(parts(v)), default=None)

    @cached_property
    def approximate(self) -> tuple[str, ...]:
        """Variants that end up on a multiplier of `run.json`."""
        return tuple(v for v in self.variants if self.multiplier_of(v) is not None)

    @cached_property
    def threats(self) -> tuple[str, ...]:
        """Threats with accuracies at some level, by family: faults first, then attacks."""
        names = dict.fromkeys(
            row.threat
            for row in self.rows
            if row.metric == "acc" and row.threat != CLEAN and row.level is not None
        )
        order = [*FAMILIES[1:], FAMILIES[0]]
        return tuple(sorted(names, key=lambda name: order.index(self.label(name).family)))

    @cached_property
    def asked(self) -> Mapping[str, Any]:
        """The recipe as a table; empty where there is none, or it is no TOML."""
        try:
            return tomllib.loads(self.recipe or "")
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def bits(self) -> int | None:
        """Width of the weights of the baseline, None where the recipe does not tell it."""
        weight = self._table("quantization").get("weight")
        bits = weight.get("bits") if isinstance(weight, dict) else None
        return bits if isinstance(bits, int) else None

    @cached_property
    def threat_tables(self) -> tuple[Mapping[str, Any], ...]:
        """The threats of the recipe, in their order."""
        found = self._table("evaluation").get("threats")
        return tuple(one for one in found or () if isinstance(one, dict))

    def _table(self, name: str) -> Mapping[str, Any]:
        found = self.asked.get(name)
        return found if isinstance(found, dict) else {}

    def label(self, threat: str) -> ThreatLabel:
        """Return what a threat is; one that `run.json` does not tell of has its name alone."""
        found = self.facts.threats.get(threat, ThreatLabel())
        return found if found.title else replace(found, title=threat)

    def condition(self, threat: str, level: float) -> str:
        """Return threat and level in words."""
        return self.label(threat).at(level)

    def multiplier_of(self, variant: str) -> str | None:
        """Return the name of the multiplier that `variant` ends up on, None for exact products."""
        named = (part for part in reversed(parts(variant)) if part in self.facts.multipliers)
        return next(named, None)

    def is_hardened(self, variant: str) -> bool:
        """Return whether a part of `variant` is a stage against faults or attacks."""
        plain = {FLOAT, self.facts.baseline}
        return variant not in plain and any(self._hardens(part) for part in parts(variant))

    def is_approximate(self, variant: str) -> bool:
        """Return whether a part of `variant` is a multiplier, or a stage that chooses some."""
        stages = self.facts.stages
        return self.multiplier_of(variant) is not None or any(
            stages.get(part, {}).get("kind") == APPROXIMATE for part in parts(variant)
        )

    def _hardens(self, part: str) -> bool:
        stage = self.facts.stages.get(part, {})
        if part in self.facts.multipliers or stage.get("kind") in (APPROXIMATE, REQUANTIZE):
            return False
        weights = [stage.get(name) for name in AGAINST]
        return stage.get("kind") != TRAINED_FOR or any(
            isinstance(weight, int | float) and weight > 0 for weight in weights
        )

    def levels(self, threat: str, metric: str = "acc") -> list[float]:
        """Return the levels measured for `threat`, ascending."""
        rows = (row for row in self.rows if row.threat == threat and row.metric == metric)
        return sorted({row.level for row in rows if row.level is not None})

    def find(
        self, variant: str, threat: str, level: float | None, *, metric: str = "acc"
    ) -> Row | None:
        """Return one measured row, None where there is none."""
        return self._by_key.get((variant, threat, level, metric))

    def clean(self, variant: str) -> Row | None:
        """Return the accuracy without any threat."""
        return self.find(variant, CLEAN, 0.0)

    def gaps(self) -> int:
        """Count cells that other quantized variants have and a measured one lacks."""
        names = [v for v in self.variants if v != FLOAT and v not in self.missing]
        cells = {
            (row.threat, row.level)
            for row in self.rows
            if row.variant != FLOAT and row.metric == "acc"
        }
        return sum(self.find(name, *cell) is None for name in names for cell in cells)


def parts(variant: str) -> list[str]:
    """Return the stages that made a variant, in order.

    Example:
        >>> parts("s1+s2")
        ['s1', 's2']
    """
    return variant.split("+")


def read_run(run_dir: Path) -> Run:
    """Read a run directory.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    unfinished = read_unfinished_run(run_dir)
    return replace(unfinished, rows=tuple(read_results(run_dir / "results.csv")))


def read_unfinished_run(run_dir: Path) -> Run:
    """Read a run directory without its result rows, which are written last.

    Raises:
        DataError: `run.json` is missing, or a file is malformed.
    """
    recipe = run_dir / "recipe.toml"
    return Run(
        facts=_read_facts(run_dir / "run.json"),
        rows=(),
        recipe=read_bytes(recipe).decode(errors="replace") if recipe.is_file() else None,
        records=_read_folder(run_dir / "records"),
        measurements=read_tallies(run_dir / "tallies.jsonl"),
        statistics=_read_folder(run_dir / "statistics"),
        analysis=_read_json(run_dir / ANALYSIS) if (run_dir / ANALYSIS).is_file() else None,
    )


def _read_facts(path: Path) -> Facts:
    if not path.is_file():
        raise DataError(f"{path.parent}: wanted a run directory, there is no {path.name} in it")
    try:
        facts = Facts.model_validate(_read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: {'; '.join(describe_problems(error, Facts))}") from None
    if facts.layout != SCHEMA:
        raise DataError(f"{path}: wanted schema {SCHEMA}, got {facts.layout}")
    return facts


def _read_folder(folder: Path) -> dict[str, Any]:
    """Return the content of each JSON file of a folder by name; nothing, where there is none."""
    return {path.stem: _read_json(path) for path in sorted(folder.glob("*.json"))}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: wanted JSON, got {error}") from None
