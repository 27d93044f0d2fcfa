"""The networks of runs as places of a comparison; chips and images pair them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from bitproof.core.directory import read_json
from bitproof.core.errors import DataError, near
from bitproof.report.compared import Cell, Key, names_of
from bitproof.report.findings import FAULTS
from bitproof.report.paired import ROUNDING, by_image, by_trial
from bitproof.report.run import CLEAN, FLOAT, Run, read_run
from bitproof.report.tallies import Measurement
from bitproof.report.wording import count
from bitproof.stats.intervals import Interval
from bitproof.stats.results import Row

SPREADS = frozenset({"acc_std", "acc_min"})
"""Metrics without intervals that are no means."""
MAY_DIFFER = ("name", "levels", "chips", "protections")
"""Settings of a threat that may differ between numbers that are compared."""


@dataclass(frozen=True)
class ComparedRun:
    """One network of a run, or all of them."""

    kind: ClassVar[str] = "a run"
    confidence: ClassVar[float] = 0.95

    name: str
    run: Run
    facts: Mapping[str, Any]
    """The whole of run.json."""
    variants: Mapping[str, str]
    """What keys call each network, by its name in the run."""
    titles: Mapping[str, str]
    """What keys call each threat, by its name in the run."""

    @cached_property
    def rows(self) -> Mapping[Key, Row]:
        """The measured numbers by key."""
        return {
            self._key(row): row
            for row in self.run.rows
            if row.variant in self.variants and row.metric not in SPREADS
        }

    def _key(self, row: Row) -> Key:
        label = self.run.label(row.threat)
        title = self.titles.get(row.threat, row.threat)
        at = "" if row.level is None or row.threat == CLEAN else f"{row.level:g}"
        place = at and f"{label.symbol} {label.level_text(row.level or 0.0)}"
        return Key(self.variants[row.variant], title, place, row.metric)

    def cells(self) -> Mapping[Key, Cell]:
        """Return what was measured."""
        return {
            key: Cell(row.value, row.interval, row.n, row.unit) for key, row in self.rows.items()
        }

    def against(self, other: "ComparedRun", key: Key) -> tuple[Interval | None, str]:
        """Return the interval of the mean difference over images or trials that both had."""
        mine, theirs = self.rows[key], other.rows[key]
        if why := self._apart(other, mine.threat, theirs.threat):
            return None, why
        if mine.level is None and self._of(mine, "levels") != other._of(theirs, "levels"):
            return None, f"{key.text}: a mean over other levels, so no difference"
        breaks = self.run.label(mine.threat).family in FAULTS
        if key.metric != "acc" or mine.level is None or theirs.level is None:
            return None, ""
        if breaks and self._seed != other._seed:
            return None, ""
        before, after = other._trials(theirs), self._trials(mine)
        same = self.run is other.run or None not in (self._images, other._images)
        found = by_image(before, after) if same else None
        words = count(sum(one.total for one in after.values()), "image")
        if found is None:
            found = by_trial(before, after)
            words = f"{len(after)} {'chips' if breaks else 'blocks of images'}"
        if found is None or abs(found.value - (mine.value - theirs.value)) > ROUNDING:
            return None, ""
        return found, words

    def notes(self, other: "ComparedRun") -> Sequence[str]:
        """Return which threats stand behind other protections than those of one name elsewhere."""
        met = {
            key.threat: (row.threat, other.rows[key].threat)
            for key, row in self.rows.items()
            if key in other.rows
        }
        found = []
        for title, (own, known) in met.items():
            mine, theirs = (
                [one.get("kind") for one in place.settings.get(threat, {}).get("protections", ())]
                for place, threat in ((self, own), (other, known))
            )
            if mine != theirs:
                words = (", ".join(map(str, kinds)) or "nothing" for kinds in (mine, theirs))
                found.append(
                    f"{title}: behind {next(words)} in {self.name}, {next(words)} in {other.name}"
                )
        return found

    def _of(self, row: Row, name: str) -> object:
        """Return a setting of the threat of a row."""
        return self.settings.get(row.threat, {}).get(name)

    def _trials(self, row: Row) -> Mapping[int, Measurement]:
        assert row.level is not None
        return self.run.trials.get((self.run.network_of(row.variant), row.threat, row.level), {})

    def _apart(self, other: "ComparedRun", threat: str, theirs: str) -> str:
        """Return why numbers of two threats cannot be subtracted; empty where they can."""
        if self._images and other._images and self._images != other._images:
            return "other test images, so no differences"
        if self.facts.get("task") != other.facts.get("task"):
            return "another task, so no differences"
        own, known = self.settings.get(threat), other.settings.get(theirs)
        if own is None or known is None:
            return ""
        odd = [name for name in _names(own, known) if own.get(name) != known.get(name)]
        return f"{threat}: other settings ({', '.join(odd)}), so no differences" if odd else ""

    @property
    def _images(self) -> str | None:
        found: str | None = self.facts.get("fingerprint", {}).get("data.test")
        return found

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        """The table `evaluation` of the recipe, or of run.json where there is no recipe."""
        try:
            asked = tomllib.loads(self.run.recipe or "")
        except tomllib.TOMLDecodeError:
            asked = {}
        found = asked.get("evaluation") or self.facts.get("evaluation") or {}
        return found if isinstance(found, dict) else {}

    @property
    def _seed(self) -> object:
        return self.evaluation.get("seed", 0)

    @cached_property
    def settings(self) -> Mapping[str, dict[str, Any]]:
        """The settings of each threat; `run.json` names them in the order of the recipe."""
        tables = self.evaluation.get("threats") or ()
        names = list(self.run.facts.threats)
        if len(tables) != len(names):
            return {}
        return {
            name: table
            for name, table in zip(names, tables, strict=True)
            if isinstance(table, dict)
        }


def _names(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*one, *two]) if name not in MAY_DIFFER]


def networks_of(place: Path) -> list[ComparedRun]:
    """Return each network of one run.

    Raises:
        DataError: the place is no run.
    """
    run, variant, facts = _read(place)
    return [ComparedRun(name, run, facts, {name: ""}, {}) for name in _chosen(run, variant)]


def open_runs(places: Sequence[Path]) -> list[ComparedRun]:
    """Return runs and networks of runs; beside a network, the one integer network of a run.

    Raises:
        DataError: a place is no run and no network of one, or a run has several networks beside a
            place that names one.
    """
    found = [_read(path) for path in places]
    if any(variant for _, variant, _ in found):
        found = [
            (run, variant or _only(run, path), facts)
            for path, (run, variant, facts) in zip(places, found, strict=True)
        ]
    single = all(len(_chosen(run, variant)) == 1 for run, variant, _ in found)
    first = _settings(found[0]) if found else {}
    made = []
    for name, one in zip(names_of(places), found, strict=True):
        run, variant, facts = one
        variants = {each: "" if single else each for each in _chosen(run, variant)}
        made.append(ComparedRun(name, run, facts, variants, _titles(_settings(one), first)))
    return made


def _only(run: Run, path: Path) -> str:
    """Return the one integer network of a run."""
    networks = [name for name in run.variants if name != FLOAT]
    if len(networks) != 1:
        raise DataError(
            f"{path}: wanted one network beside another, this run has {', '.join(run.variants)}; "
            f"name one, such as {path}/networks/{run.variants[-1]}"
        )
    return networks[0]


def _read(path: Path) -> tuple[Run, str | None, Mapping[str, Any]]:
    """Return a run, the one network of it that is meant, and its facts."""
    folder, variant = path, None
    if not path.is_dir():
        folder = path.parent.parent
        variant = path.name.removesuffix(".json").removesuffix(".safetensors")
        if path.parent.name != "networks" or not (folder / "run.json").is_file():
            raise DataError(
                f"{path}: wanted the directory of a run, campaign or search, or a network of a "
                "run, such as runs/NAME/networks/VARIANT"
            )
    run = read_run(folder)
    if variant is not None and variant not in run.variants:
        raise DataError(f"{folder}: no network '{variant}'. {near(variant, run.variants)}")
    return run, variant, read_json(folder / "run.json", DataError)


def _chosen(run: Run, variant: str | None) -> Sequence[str]:
    return run.variants if variant is None else (variant,)


def _settings(found: tuple[Run, str | None, Mapping[str, Any]]) -> Mapping[str, dict[str, Any]]:
    run, _, facts = found
    return ComparedRun("", run, facts, {}, {}).settings


def _titles(
    own: Mapping[str, dict[str, Any]], first: Mapping[str, dict[str, Any]]
) -> dict[str, str]:
    """Return the first run's names of threats that it does not have under the same name.

    These are the threats that differ in their protections alone: with and without SECDED.
    """
    named = {}
    free = [title for title in first if title not in own]
    for title, table in own.items():
        if title in first:
            continue
        alike = [
            other
            for other in free
            if all(table.get(n) == first[other].get(n) for n in _names(table, first[other]))
        ]
        if len(alike) == 1:
            named[title] = alike[0]
            free.remove(alike[0])
    return named
