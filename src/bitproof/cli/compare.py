"""`bitproof compare`: runs, networks, campaigns or searches side by side."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import typer

from bitproof.cli.console import print_table
from bitproof.core.files import write_text
from bitproof.report.comparison import compare, flat_comparison
from bitproof.report.comparison_table import (
    comparison_figure,
    comparison_notes,
    comparison_table,
    comparison_title,
)

TABLE = "table.csv"


def print_comparison(
    places: Sequence[Path], *, out: Path | None, json_path: Path | None, formats: Sequence[str]
) -> None:
    """Print one table of all places; with `out`, keep it as CSV, and one figure."""
    found = compare(places)
    header, *rows = comparison_table(found)
    print_table(header, rows, title=comparison_title(found), numbers=True)
    for note in comparison_notes(found):
        typer.echo(note)
    flat = list(flat_comparison(found))
    if json_path:
        content = {"kind": found.kind, "places": found.places, "notes": found.notes, "rows": flat}
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        typer.echo(f"all numbers: {json_path}")
    if out:
        from bitproof.report.figures import write_figures

        text = io.StringIO()
        writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        write_text(out / TABLE, text.getvalue())
        for path in (out / TABLE, *write_figures([comparison_figure(found)], out, formats)):
            typer.echo(path)
