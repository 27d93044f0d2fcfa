"""The results of any directory, or of a call, as tables by name: rows of plain values.

Model:  a row is a dictionary of text, numbers, booleans and None; nested values of files lie flat
        in it. A rate `[low, value, high]` becomes `sdc1`, `sdc1_low` and `sdc1_high`; rates are
        fractions, as in the files. Tables are read when they are asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from bitproof.core.directory import read_json
from bitproof.core.errors import DataError, near, shorten
from bitproof.report.campaign_summary import SUMMARY, read_summary
from bitproof.report.exploration_page import is_exploration, read_exploration
from bitproof.report.run import Run, read_run
from bitproof.report.tallies import Measurement
from bitproof.stats.results import Row

if TYPE_CHECKING:
    import pyarrow

PlainRow = dict[str, Any]
"""Text, numbers, booleans and None by column."""
INTERVALS = frozenset({"acc", "acc_carried", "stopped", "rerr", "fit", "rate", "predicted"})
"""Names of `[low, value, high]` in summaries, beside all of `rates` and `metrics`."""
FAULTS = "faults"
"""The table of single faults, which is read from the parts of a campaign."""


class Table(Sequence[PlainRow]):
    """Rows of plain values; all have the same columns.

    Example:
        >>> table = Table([{"layer": "fc", "sdc1": 0.5}, {"layer": "conv", "sdc1": None}])
        >>> len(table), table.columns, table[0]["layer"]
        (2, ('layer', 'sdc1'), 'fc')
        >>> table.to_arrow().column("sdc1").to_pylist()
        [0.5, None]
    """

    def __init__(self, rows: Iterable[PlainRow]) -> None:
        found = list(rows)
        self.columns = tuple(dict.fromkeys(name for row in found for name in row))
        """Names of columns, in order."""
        self._rows = [{name: row.get(name) for name in self.columns} for row in found]

    @overload
    def __getitem__(self, index: int) -> PlainRow: ...

    @overload
    def __getitem__(self, index: slice) -> list[PlainRow]: ...

    def __getitem__(self, index: int | slice) -> PlainRow | list[PlainRow]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Table of {len(self)} rows: {', '.join(self.columns)}"

    def column(self, name: str) -> list[Any]:
        """Return one column.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.columns:
            raise DataError(f"no column {shorten(name)}. {near(name, self.columns)}")
        return [row[name] for row in self._rows]

    def to_arrow(self) -> "pyarrow.Table":
        """Return a pyarrow table."""
        import pyarrow as pa  # noqa: PLC0415 - slow to import

        columns = {name: [row[name] for row in self._rows] for name in self.columns}
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`.

        Raises:
            DataError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: PLC0415
        except ImportError:
            raise DataError(
                "to_pandas: wanted pandas, which is not installed: pip install pandas; "
                "to_arrow() and the rows themselves need nothing"
            ) from None
        return pd.DataFrame(self._rows, columns=list(self.columns))


@dataclass(frozen=True)
class Tables(Mapping[str, Table]):
    """Tables by name.

    Example:
        >>> found = Tables("campaign", {"totals": lambda: [{"group": 0, "sdc1": 0.25}]})
        >>> found.tables, found["totals"].column("sdc1")
        (('totals',), [0.25])
    """

    kind: str
    """`run`, `campaign` or `search`."""
    makers: Mapping[str, Callable[[], Iterable[PlainRow]]] = field(repr=False)
    """Makes the rows of each."""
    _made: dict[str, Table] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of tables."""
        return tuple(self.makers)

    def __getitem__(self, name: str) -> Table:
        if name not in self.makers:
            raise DataError(f"no table {shorten(name)} of a {self.kind}. {near(name, self.tables)}")
        if name not in self._made:
            self._made[name] = Table(self.makers[name]())
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.makers

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    def __repr__(self) -> str:
        return f"Tables of a {self.kind}: {', '.join(self.tables)}"


def read(directory: Path | str) -> Tables:
    """Return the tables of a run, campaign or search directory.

    Of a run: `results` (as `results.csv`), `measurements` (counts of single trials), `networks`,
    `threats`. Of a campaign: `totals`, `layers`, `bits`, `cells`, `channels`, `elements`,
    `convergence`, `rankings`, `worst`, `groups`, and `faults`, each fault with what it did. Of a
    search: `front`, `points`, `chosen`, `searches`, `multipliers`, `objectives`, `levels`,
    `layers`.

    Raises:
        DataError: it is none of these, or a file is missing or damaged.
    """
    folder = Path(directory)
    if is_exploration(folder):
        return _tables_of_search(read_exploration(folder))
    if (folder / SUMMARY).is_file():
        read_summary(folder)  # refuses what is damaged
        found = flat(read_json(folder / SUMMARY, DataError))
        return Tables("campaign", {**found.makers, FAULTS: lambda: _faults(folder)})
    return _tables_of_run(read_run(folder))


@overload
def flat(found: Mapping[str, Any]) -> Tables: ...


@overload
def flat(found: Iterable[Row]) -> Table: ...


def flat(found: Mapping[str, Any] | Iterable[Row]) -> Tables | Table:
    """Return the summary of a campaign as tables, or rows of an evaluation as one table.

    Example:
        >>> flat([Row("s1", "clean", 0.0, "acc", 0.5, 0.4, 0.6, 99)])[0]["ci_low"]
        0.4
        >>> totals = [{"group": 0, "trials": 9, "rates": {"sdc1": [0.1, 0.2, 0.3]}}]
        >>> flat({"totals": totals})["totals"][0]
        {'group': 0, 'trials': 9, 'sdc1': 0.2, 'sdc1_low': 0.1, 'sdc1_high': 0.3}
    """
    if not isinstance(found, Mapping):
        return Table(asdict(row) for row in found)
    makers: dict[str, Callable[[], Iterable[PlainRow]]] = {}
    for name, content in found.items():
        if isinstance(content, list) and all(isinstance(one, Mapping) for one in content):
            make = _SPECIAL.get(name, _flat_rows)
            makers[name] = lambda make=make, content=content: make(content)  # type: ignore[misc]
    return Tables("campaign", makers)


def flat_row(table: Mapping[str, Any]) -> PlainRow:
    """Return nested values as one row of plain values.

    Example:
        >>> flat_row({"a": {"b": 1}, "acc": [0.1, 0.2, 0.3], "sites": ["x", "y"]})
        {'a_b': 1, 'acc': 0.2, 'acc_low': 0.1, 'acc_high': 0.3, 'sites': 'x, y'}
    """
    row: PlainRow = {}
    for name, value in table.items():
        if name in {"rates", "metrics"} and isinstance(value, Mapping):
            for inner, rate in value.items():
                row |= _ends(inner, rate)
        elif isinstance(value, Mapping):
            row |= {f"{name}_{inner}": own for inner, own in flat_row(value).items()}
        elif name in INTERVALS and isinstance(value, Sequence) and len(value) == 3:
            row |= _ends(name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            row[name] = ", ".join(map(str, value))
        else:
            row[name] = value
    return row


def _ends(name: str, rate: Sequence[float]) -> PlainRow:
    low, value, high = rate
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _flat_rows(content: Sequence[Mapping[str, Any]]) -> list[PlainRow]:
    return [flat_row(one) for one in content]


def _convergence(content: Sequence[Mapping[str, Any]]) -> list[PlainRow]:
    return [
        {"group": one["group"], "outcome": one["outcome"], "trials": trials}
        | _ends("rate", (low, value, high))
        for one in content
        for trials, low, value, high in zip(
            one["trials"], one["low"], one["value"], one["high"], strict=True
        )
    ]


def _rankings(content: Sequence[Mapping[str, Any]]) -> list[PlainRow]:
    return [
        {
            **{name: one[name] for name in ("group", "site", "of", "outcome")},
            "place": number,
            "layer": place.get("layer"),
            "bit": place.get("bit"),
            **_ends("rate", place["rate"]),
            **{"rank_low": place["ranks"][0], "rank_high": place["ranks"][1]},
            **{name: place[name] for name in ("trials", "population")},
        }
        for one in content
        for number, place in enumerate(one["places"], 1)
    ]


_SPECIAL: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], list[PlainRow]]] = {
    "convergence": _convergence,
    "rankings": _rankings,
}


def _faults(folder: Path) -> list[PlainRow]:
    from bitproof.injection.outcomes import rows_of  # noqa: PLC0415 - needs torch
    from bitproof.injection.read_outcomes import read_outcomes  # noqa: PLC0415

    return rows_of(read_outcomes(folder))


def _tables_of_run(run: Run) -> Tables:
    def networks() -> Iterator[PlainRow]:
        for variant in run.variants:
            found = run.statistics.get(variant) or {}
            fidelity = {
                name: value
                for name, value in (found.get("fidelity") or {}).items()
                if not isinstance(value, Mapping | list)
            }
            digest = run.facts.networks.get(variant)
            yield flat_row({"variant": variant, "digest": digest, "fidelity": fidelity})

    return Tables(
        "run",
        {
            "results": lambda: (asdict(row) for row in run.rows),
            "measurements": lambda: map(_measurement_row, run.measurements),
            "networks": networks,
            "threats": lambda: (
                {"threat": name, **asdict(label)} for name, label in run.facts.threats.items()
            ),
        },
    )


def _measurement_row(one: Measurement) -> PlainRow:
    row = asdict(one)
    del row["right"]  # a byte for each image is no plain value
    return {**row, "acc": one.acc}


def _tables_of_search(summary: Mapping[str, Any]) -> Tables:
    named = [f"{one['threat']}@{one['level']:g}" for one in summary["objectives"]]

    def point(one: Mapping[str, Any]) -> PlainRow:
        row = {
            name: value
            for name, value in one.items()
            if not isinstance(value, list | Mapping) and name not in {"low", "high"}
        }
        ends = one.get("intervals")
        for number, name in enumerate(named):
            if ends:
                row |= _ends(name, ends[number])
            else:
                row[name] = one["accs"][number]
            if one.get("held_out"):
                row |= _ends(f"{name}_held_out", one["held_out"][number])
        return row | (_ends("predicted", one["predicted"]) if one.get("predicted") else {})

    def layers() -> Iterator[PlainRow]:
        for own in (summary["chosen"] or {}).get("used", ()):
            for multiplier, filters in own["filters"].items():
                yield {"layer": own["layer"], "multiplier": multiplier, "filters": filters}

    chosen = [summary["chosen"]] if summary["chosen"] else []
    searches = summary["searches"]
    return Tables(
        "search",
        {
            "front": lambda: map(point, summary["front"]),
            "chosen": lambda: map(point, chosen),
            "layers": layers,
            "points": lambda: (
                {"search": one["search"], **point(each)}
                for one in searches
                for each in one["points"]
            ),
            "searches": lambda: (
                flat_row({k: v for k, v in one.items() if k not in {"points", "best"}})
                for one in searches
            ),
            "multipliers": lambda: _flat_rows(summary["multipliers"]),
            "objectives": lambda: _flat_rows(summary["objectives"]),
            "levels": lambda: _flat_rows(summary["levels"]),
        },
    )
