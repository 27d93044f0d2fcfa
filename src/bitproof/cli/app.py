"""The commands."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bitproof import __version__
from bitproof.cli.outcome import report_problems


class Commands(TyperGroup):
    """The commands; what goes wrong in them is told here, before Typer makes something of it."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command that was asked for."""
        with report_problems():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    name="bitproof",
    help="Take a neural network from float training to hardware with broken bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets: what is there, and getting it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Out = Annotated[Path | None, typer.Option(help="Run directory; default runs/NAME.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DataDir = Annotated[
    Path | None, typer.Option(envvar="BITPROOF_DATA", help="Folder that holds the data sets.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"bitproof {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Take a neural network from float training to hardware with broken bits."""
    del version


@app.command()
def demo(out: Out = None, device: Device = "auto", resume: Resume = False) -> None:
    """Run the main job on the built-in digits; needs no data and about two minutes."""
    from bitproof.cli.running import run_demo

    run_demo(out or Path("runs/demo"), device=device, resume=resume, fresh=out is None)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, in TOML.")],
    out: Out = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    resume: Resume = False,
) -> None:
    """Carry out a recipe: train, harden, quantize, measure, report."""
    from bitproof.cli.running import run_recipe

    run_recipe(recipe, out, device=device, data_dir=data_dir, resume=resume)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html anew from a run directory, and print the result table."""
    from bitproof.cli.running import print_results
    from bitproof.report import write_report

    print_results(directory, write_report(directory))


@app.command()
def describe(
    kind: Annotated[str | None, typer.Argument(help="One component; all, if left out.")] = None,
) -> None:
    """Tell every component with its parameters, units and source."""
    from bitproof.cli.describing import describe_all, describe_kind

    typer.echo(describe_kind(kind) if kind else describe_all())


@app.command()
def models() -> None:
    """List the architectures."""
    from bitproof.cli.describing import list_models

    typer.echo(list_models())


@data_app.command("list")
def data_list(data_dir: DataDir = None) -> None:
    """Tell which data sets are there."""
    from bitproof.cli.data import list_data

    list_data(data_dir)


@data_app.command("fetch")
def data_fetch(
    kind: Annotated[str, typer.Argument(help="A data set, for example cifar10.")],
    data_dir: DataDir = None,
    mirror: Annotated[
        str | None, typer.Option(help="Take the files from this address instead.")
    ] = None,
) -> None:
    """Download the official archive, check it, unpack it."""
    from bitproof.cli.data import fetch_data

    fetch_data(kind, data_dir, mirror)


@data_app.command("verify")
def data_verify(
    kind: Annotated[str, typer.Argument(help="A data set, for example cifar10.")],
    data_dir: DataDir = None,
) -> None:
    """Compare the files of a data set with the published checksums."""
    from bitproof.cli.data import verify_data

    verify_data(kind, data_dir)
