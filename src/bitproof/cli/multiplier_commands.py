"""The commands of `bitproof multipliers`."""

from pathlib import Path
from typing import Annotated

import typer

from bitproof.cli.options import DataDir

multipliers_app = typer.Typer(
    help="Approximate multipliers: products, errors, cost.", no_args_is_help=True
)


@multipliers_app.command("list")
def multipliers_list(data_dir: DataDir = None) -> None:
    """Tell every multiplier with its main figures, one line each."""
    from bitproof.cli.multipliers import list_multipliers

    list_multipliers(data_dir)


@multipliers_app.command("show")
def multipliers_show(
    name: Annotated[
        str, typer.Argument(help="drum:width=6, mul8s_1L2H, mul8s_1KV8@v1.1, swapped:NAME, ...")
    ],
    data_dir: DataDir = None,
) -> None:
    """Tell all figures of one multiplier, its cost and source, and draw where it errs."""
    from bitproof.cli.multipliers import show_multiplier

    show_multiplier(name, data_dir)


@multipliers_app.command("plot")
def multipliers_plot(
    name: Annotated[str, typer.Argument(help="As for show.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("multiplier.png"),
    data_dir: DataDir = None,
) -> None:
    """Draw the errors of all pairs of operands."""
    from bitproof.cli.multipliers import plot_multiplier

    plot_multiplier(name, out, data_dir)


@multipliers_app.command("check")
def multipliers_check(data_dir: DataDir = None) -> None:
    """Work out the published figures of EvoApproxLib anew, and tell what disagrees."""
    from bitproof.cli.multipliers import check_multipliers

    check_multipliers(data_dir)
