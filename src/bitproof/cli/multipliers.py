"""`bitproof multipliers`: the list, one of them, its picture, the check of published figures.

This module needs torch; `app.py` loads it when one of its commands is asked for.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bitproof.approx import (
    Cost,
    Multiplier,
    ProductTable,
    catalogue,
    character_map,
    check_library,
    error_figures,
    exact_rank,
    library_path,
    multiplier_of,
    png,
    read_circuits,
    read_tables,
    same_products,
    short_name,
    zero_operand_errors,
)
from bitproof.approx.evoapprox import FILE
from bitproof.approx.published import FIGURES, Check
from bitproof.cli.console import print_table
from bitproof.cli.options import DataDir
from bitproof.core.errors import SpecError, shorten
from bitproof.core.files import write_bytes
from bitproof.data.layout import data_root

group = typer.Typer(
    help="Approximate multipliers: products, errors, cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
HEADER = ("", "MED", "NMED %", "MRED %", "WCE", "EP %", "bias", "area um2", "power mW", "delay ns")


@group.command("list")
def list_multipliers(data_dir: DataDir = None) -> None:
    """Tell every multiplier with its main figures, one line each."""
    library = _library(data_dir)
    for signed in (False, True):
        built_in = ((each, each.table(), None) for each in catalogue(signed=signed))
        circuits = [each for each in library if each[1].signed == signed]
        rows = [_row(*each) for each in (*built_in, *circuits)]
        words = "signed (int8 x int8)" if signed else "unsigned (uint8 x uint8)"
        print_table(HEADER, rows, title=words, numbers=True)
    if not library:
        typer.echo(f"EvoApproxLib is not listed: no {FILE} in the data folder.")


@group.command("show")
def show_multiplier(
    name: Annotated[
        str, typer.Argument(help="drum:width=6, mul8s_1L2H, mul8s_1KV8@v1.1, swapped:NAME, ...")
    ],
    data_dir: DataDir = None,
) -> None:
    """Tell all figures of one multiplier, its cost and source, and draw where it errs."""
    multiplier = multiplier_of(name)
    table, cost = multiplier.table(data_dir), multiplier.cost(data_dir)
    for label, value in _facts(multiplier, table, cost):
        typer.echo(f"{label:18}{value}")
    low, high = (int(end) for end in table.operands.aminmax())
    typer.echo(f"\nMean |error|, first operand down, second right, both from {low} to {high}:")
    for line in character_map(table):
        typer.echo(f"|{line}|")


@group.command("plot")
def plot_multiplier(
    name: Annotated[str, typer.Argument(help="As for show.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("multiplier.png"),
    data_dir: DataDir = None,
) -> None:
    """Draw the errors of all pairs of operands."""
    if out.suffix.lower() != ".png":
        raise SpecError(f"--out: wanted a file that ends in .png, got {shorten(str(out))}")
    multiplier = multiplier_of(name)
    write_bytes(out, png(multiplier.table(data_dir), short_name(multiplier)))
    typer.echo(f"{out}: written")


@group.command("check")
def check_multipliers(data_dir: DataDir = None) -> None:
    """Work out the published figures of EvoApproxLib anew, and tell what disagrees."""
    check = check_library(data_dir)
    circuits = len(check.comparisons) // len(FIGURES)
    agreed = Counter(each.figure.column for each in check.comparisons if each.agrees)
    rows = [
        (figure.column, figure.meaning, f"{agreed[figure.column]} of {circuits}")
        for figure in FIGURES
    ]
    header = ("published", "what it is (e = error, p = exact product)", "agree")
    print_table(header, rows, title=f"EvoApproxLib: {circuits} named circuits", numbers=False)
    _print_disagreements(check)
    total = len(check.comparisons)
    typer.echo(
        f"{total - len(check.disagreements)} of {total} published figures agree, to the last "
        "printed digit. Area, power and delay cannot be worked out from tables."
    )
    typer.echo("Under other conventions, fewer would:")
    for words, count in check.other_conventions.items():
        typer.echo(f"  {words}: {count} of {circuits}")
    typer.echo(
        f"{len(check.transposed)} circuits with an asymmetric table have C models that take "
        "(B, A); here rows are port A."
    )
    typer.echo(
        f"{len(check.nonzero_for_zero)} circuits have products with 0 that are not 0: "
        f"{', '.join(check.nonzero_for_zero)}."
    )
    pairs = ", ".join(f"{name} = {first}" for name, first in check.second_names.items())
    typer.echo(f"{len(check.second_names)} names are second names: {pairs}.")


def _print_disagreements(check: Check) -> None:
    rows = [
        (
            each.circuit.title,
            each.figure.column,
            f"{each.published:g}",
            f"{each.ours:.6g}",
            each.explanation or "unknown",
        )
        for each in check.disagreements
    ]
    if rows:
        header = ("circuit", "figure", "published", "from the table", "why")
        print_table(header, rows, title="disagreements", numbers=False)


def _library(data_dir: Path | None) -> list[tuple[Multiplier, ProductTable, Cost]]:
    """Return the circuits of the library; none if there is no library."""
    root = data_root(data_dir)
    if root is None or not (root / FILE).exists():
        return []
    path = library_path(data_dir)
    circuits = read_circuits(path)
    return [
        (circuit.multiplier, table, circuit.cost)
        for circuit, table in zip(circuits, read_tables(path, circuits), strict=True)
    ]


def _row(multiplier: Multiplier, table: ProductTable, cost: Cost | None) -> Sequence[str]:
    figures = error_figures(table)
    taken = (cost.area_um2, cost.power_mw, cost.delay_ns) if cost else ()
    return (
        short_name(multiplier),
        f"{figures.med:.5g}",
        f"{100 * figures.nmed:.3g}",
        f"{100 * figures.mred:.4g}",
        f"{figures.wce}",
        f"{100 * figures.ep:.2f}",
        f"{figures.bias:.5g}",
        *(f"{value:g}" for value in taken),
        *("-" for _ in range(3 - len(taken))),
    )


def _facts(
    multiplier: Multiplier, table: ProductTable, cost: Cost | None
) -> Iterator[tuple[str, str]]:
    """Yield what there is to tell, as labels and values."""
    figures = error_figures(table)
    yield "multiplier", short_name(multiplier)
    yield "operands", "int8, two's complement" if table.signed else "uint8"
    yield "MED (MAE)", f"{figures.med:.6g}   {100 * figures.med_of_range:.4g} % of 2^16"
    yield "NMED", f"{100 * figures.nmed:.4g} % of the largest exact product"
    yield "MRED (MRE)", f"{100 * figures.mred:.4g} %"
    yield "WCE", f"{figures.wce}   {100 * figures.wce_of_range:.4g} % of 2^16"
    yield "WCRE", f"{100 * figures.wcre:.4g} %"
    yield "EP", f"{100 * figures.ep:.2f} %"
    yield "MSE", f"{figures.mse:.8g}"
    yield "bias", f"{figures.bias:.6g}"
    yield "products", f"{int(table.products.min())} to {int(table.products.max())}"
    yield "errors", f"{int(table.errors.min())} to {int(table.errors.max())}"
    yield "with a 0 operand", f"{zero_operand_errors(table)} of 511 products are not 0"
    yield "operands commute", "yes" if table.commutes else "no"
    yield "exact rank", f"{exact_rank(table.products)}; of its errors {exact_rank(table.errors)}"
    others = [each for each in same_products(table) if each != multiplier]
    yield "same products as", ", ".join(map(short_name, others)) or "no other one here"
    if cost:
        yield "area", f"{cost.area_um2:g} um2"
        yield "power", f"{cost.power_mw:g} mW"
        yield "delay", f"{cost.delay_ns:g} ns"
        yield "source of cost", cost.source
    else:
        yield "cost", "not published"
    yield "model and source", f"bitproof describe {multiplier.kind}"
