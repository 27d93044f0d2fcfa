"""`bitproof circuit`: multipliers as gates - their table, Verilog, other people's, side by side.

This module needs torch; `app.py` loads it when one of its commands is asked for.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bitproof.approx import component
from bitproof.approx.circuit import product_port, table_of_circuit
from bitproof.approx.circuit_measurement import (
    CircuitFigures,
    check_equal,
    measure_circuit,
    measure_design,
    with_signs,
)
from bitproof.approx.operands import OperandPairs, operand_pairs_of
from bitproof.approx.stored import write_products
from bitproof.circuits import (
    DESIGNS,
    Library,
    as_written,
    find_library,
    read_sources,
    sta_available,
    synthesize,
    to_verilog,
    with_rivals,
)
from bitproof.circuits.built_in import USUAL_MANTISSA
from bitproof.circuits.design import Design
from bitproof.circuits.net_faults import TOLERANCE
from bitproof.cli.console import print_table, watcher
from bitproof.cli.options import DataDir
from bitproof.core.errors import CircuitError, SpecError, shorten
from bitproof.core.files import write_text
from bitproof.data.layout import data_root
from bitproof.recipe.stored_networks import open_networks
from bitproof.report import circuits as shown
from bitproof.report.figures import write_figures

group = typer.Typer(
    help="Multipliers as circuits of gates: cost, errors, faults, Verilog.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
PUBLISHED_WIDTH = 8
"""Bits of the operands that AdAM's published figures are about."""
IMAGES = 64
"""Test images that the operands of a network are taken from."""
Lib = Annotated[
    str, typer.Option("--lib", help="sky130, osu018, unit (count gates), or a Liberty file.")
]
Tolerance = Annotated[
    float,
    typer.Option(
        min=0.0, help="Share of a product that a detected fault may change and count as mitigated."
    ),
]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write all figures to a file.")]
Figures = Annotated[Path | None, typer.Option(help="Folder for drawings: SVG, PNG, PDF.")]
Top = Annotated[str, typer.Option(help="Module on top; empty: the one that no other uses.")]
BLOCK_HEAD = (
    "block",
    "faults",
    "masked %",
    "mitigated %",
    "detected %",
    "silent %",
    "mean",
    "worst",
)


@group.command("list")
def list_designs() -> None:
    """Tell what can be made here, and what can be set."""
    rows = []
    for kind in DESIGNS:
        fields = (name for name in kind.model_fields if name != "kind")
        first = (kind.__doc__ or "").strip().splitlines()[0]
        rows.append((str(kind.model_fields["kind"].default), first, ", ".join(fields)))
    print_table(("circuit", "what it does", "settings"), rows, title="Circuits", numbers=False)
    typer.echo("write KIND:field=value,field=value, such as adam:mantissa=4,drop=false")


@group.command("report")
def report_circuits(  # noqa: PLR0917
    designs: Annotated[
        list[str], typer.Argument(help="Circuits, as KIND or KIND:field=value,field=value.")
    ],
    width: Annotated[int, typer.Option(help="Bits of an operand.", min=4, max=16)] = 8,
    t: Annotated[
        int | None,
        typer.Option(help="Mantissa bits of logarithmic multipliers; none: 5, or all.", min=2),
    ] = None,
    signed: Annotated[bool, typer.Option(help="Operands in two's complement.")] = False,
    lib: Lib = "unit",
    tolerance: Tolerance = TOLERANCE,
    network: Annotated[
        Path | None, typer.Option(help="Integer network whose operands count, as for `inject`.")
    ] = None,
    data: Annotated[str, typer.Option(help="Its data set, if it is in no run.")] = "",
    layer: Annotated[str, typer.Option(help="Its layer; empty: the one in the middle.")] = "",
    json_path: JsonPath = None,
    figures: Figures = None,
    data_dir: DataDir = None,
) -> None:
    """Put circuits beside their rivals: cost, errors, and what single faults do."""
    library, t = _library(lib, data_dir), _mantissa(t, width)
    wanted = [_design(text, width=width, t=t, signed=signed) for text in designs]
    chosen = with_rivals(wanted, width=width, mantissa=t, signed=signed)
    operands = _operands(network, data, layer, signed=signed, data_dir=data_dir)
    found = [
        measure_design(design, library, operands=operands, tolerance=tolerance)
        for design in watcher().track(chosen, label="circuits", total=len(chosen))
    ]
    rows = [one.to_dict() for one in found]
    _print_head(found, lib, tolerance, operands)
    print_table(shown.HEAD, shown.table_rows(rows), title="Circuits", numbers=True)
    exact, voted = rows[0]["label"], rows[1]["label"]
    head = ("", *(f"{what} / {base}" for base in (exact, voted) for what in ("area", "PDP")))
    print_table(head, shown.ratio_rows(rows, (exact, voted)), title="Ratios", numbers=True)
    for design, one in zip(chosen, rows, strict=True):
        if design in wanted:
            title = f"{one['label']}: nets held at 0 or 1, by block"
            print_table(BLOCK_HEAD, shown.block_rows(one), title=title, numbers=True)
    adam = next((row for d, row in zip(chosen, rows, strict=True) if d.kind == "adam"), None)
    if adam is not None and width == PUBLISHED_WIDTH:
        published = shown.published_rows(rows, adam=adam["label"], exact=exact, voted=voted)
        for each in published:
            typer.echo(
                f"{adam['label']}, {each.what}: {each.ours:.3f}; published {each.published:.3f} "
                f"({each.reading})"
            )
        typer.echo(shown.DIFFERENCES)
    _keep(rows, json_path, figures)


@group.command("import")
def import_circuit(  # noqa: PLR0917
    place: Annotated[
        Path, typer.Argument(help="Verilog or Yosys JSON: a file, or a folder with one circuit.")
    ],
    top: Top = "",
    product: Annotated[
        str, typer.Option(help="Output that is the product; empty: p, or the only one.")
    ] = "",
    lib: Lib = "unit",
    keep_hierarchy: Annotated[
        bool, typer.Option(help="Synthesize modules apart, so that redundancy stays.")
    ] = False,
    written: Annotated[
        bool, typer.Option("--as-written", help="Take gates as they are, without synthesis.")
    ] = False,
    signed: Annotated[
        bool | None,
        typer.Option(
            help="How operands are read where the ports do not say; none: what fits best."
        ),
    ] = None,
    tolerance: Tolerance = TOLERANCE,
    table: Annotated[
        Path | None,
        typer.Option(help="Write all products to an npz file, for multipliers of kind `table`."),
    ] = None,
    json_path: JsonPath = None,
    data_dir: DataDir = None,
) -> None:
    """Read a multiplier in Verilog: its table, errors, cost, and what single faults do."""
    library = _library(lib, data_dir)
    _check_options(written=written, keep_hierarchy=keep_hierarchy, table=table)
    source = read_sources(place, top)
    circuit = as_written(source, library)
    if not written:
        plain, circuit = circuit, synthesize(source, library, flatten=not keep_hierarchy)
        check_equal(plain.netlist, circuit.netlist)
    taken = product_port(circuit.netlist, product)
    circuit, note = with_signs(circuit, taken, signed)
    typer.echo(f"{note}; product: {taken}")
    found = measure_circuit(circuit, circuit.netlist.name, tolerance=tolerance, product=taken)
    row = found.to_dict()
    _print_head([found], lib, tolerance, None)
    print_table(shown.HEAD, shown.table_rows([row]), title=str(place), numbers=True)
    if keep_hierarchy:
        print_table(BLOCK_HEAD, shown.block_rows(row), title="by block", numbers=True)
    if table is not None:
        products = table_of_circuit(circuit.netlist, taken)
        write_products(table, products)
        reading = f'path = "{table}", signed = {str(products.signed).lower()}'
        typer.echo(f'{table}: written; as a multiplier: {{kind = "table", {reading}}}')
    _keep([row], json_path, None)


@group.command("verilog")
def write_verilog(  # noqa: PLR0917
    design: Annotated[str, typer.Argument(help="KIND or KIND:field=value,field=value.")],
    width: Annotated[int, typer.Option(help="Bits of an operand.", min=4, max=16)] = 8,
    signed: Annotated[bool, typer.Option(help="Operands in two's complement.")] = False,
    lib: Annotated[
        str, typer.Option("--lib", help="Cells of this library instead of operators.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="File; none: print it.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a circuit as Verilog."""
    source = _design(design, width=width, t=None, signed=signed).source()
    text = synthesize(source, _library(lib, data_dir)).verilog if lib else to_verilog(source)
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text)
        typer.echo(f"{out}: written")


def _library(name: str, data_dir: Path | None) -> Library | None:
    return None if name == "unit" else find_library(name, data_root(data_dir))


def _design(text: str, *, width: int, t: int | None, signed: bool) -> Design:
    """Return the design that a word on the command line stands for.

    Raises:
        SpecError: it names another width or other signs than the options do.
    """
    design = DESIGNS.build(_completed(component(text), width=width, t=t, signed=signed))
    if (design.width, design.signed) != (width, signed):
        raise SpecError(
            f"{text}: wanted width {width} and signed {signed}, as the options say, got "
            f"{design.width} and {design.signed}"
        )
    return design


def _completed(table: dict[str, Any], *, width: int, t: int | None, signed: bool) -> dict[str, Any]:
    """Return a table with the options where it says nothing itself, components inside included."""
    common: dict[str, Any] = {"width": width, "signed": signed}
    if table["kind"] == "adam":
        common["mantissa"] = _mantissa(t, width)
    elif table["kind"] == "mitchell" and t is not None:
        common["mantissa"] = t
    inner = table.get("of")
    if inner is not None:
        inner = inner if isinstance(inner, dict) else component(str(inner))
        common["of"] = _completed(inner, width=width, t=t, signed=signed)
    return {**common, **{name: value for name, value in table.items() if name != "of"}}


def _mantissa(t: int | None, width: int) -> int:
    return min(USUAL_MANTISSA, width - 1) if t is None else t


def _operands(
    network: Path | None, data: str, layer: str, *, signed: bool, data_dir: Path | None
) -> OperandPairs | None:
    if network is None:
        return None
    networks, test = open_networks(network, data=data, data_dir=data_dir)
    if len(networks) > 1:
        raise CircuitError(f"{network}: wanted one network, got {', '.join(networks)}")
    (own,) = networks.values()
    images = test.first(min(IMAGES, len(test))).inputs()
    return operand_pairs_of(own, images, signed=signed, layer=layer)


def _check_options(*, written: bool, keep_hierarchy: bool, table: Path | None) -> None:
    """Refuse what cannot be, before anything is done."""
    if written and keep_hierarchy:
        raise SpecError("--as-written: wanted it, or --keep-hierarchy, got both")
    if table is not None and table.suffix != ".npz":
        raise SpecError(f"--table: wanted a file that ends in .npz, got {shorten(str(table))}")


def _print_head(
    found: Sequence[CircuitFigures], lib: str, tolerance: float, operands: OperandPairs | None
) -> None:
    """Say what the numbers stand for."""
    one = found[0]
    faults = "all pairs of operands" if one.exhaustive else f"{one.pairs} random pairs"
    if operands is not None:
        faults = f"pairs as often as layer {operands.layer} meets them"
    typer.echo(
        f"library {lib}; faults: every net at 0, at 1, turned over, for {faults}; mitigated: "
        f"detected and off by at most {100 * tolerance:g} % of the product; errors over "
        f"{'all' if one.exhaustive else 'the same'} pairs alike; power: {one.cost.operands}"
    )
    counted = one.cost.counted
    if counted:
        why = "" if lib == "unit" or sta_available() else " (OpenSTA is not installed)"
        typer.echo(f"by the unit-gate model{why}: {', '.join(counted)}")


def _keep(rows: Sequence[dict[str, Any]], json_path: Path | None, figures: Path | None) -> None:
    if json_path is not None:
        write_text(json_path, json.dumps(rows, indent=1) + "\n")
        typer.echo(f"{json_path}: written")
    if figures is not None:
        paths = write_figures(shown.circuit_figures(rows), figures)
        typer.echo(f"{len(paths)} drawings in {figures}")
