"""`bitproof data`: which data sets are here, whether they are right, and getting them."""

from pathlib import Path
from typing import Annotated

import typer

from bitproof.cli.completion import FETCHED, one_of
from bitproof.cli.console import print_table, watcher
from bitproof.cli.options import DataDir
from bitproof.cli.outcome import report_problems
from bitproof.cli.signals import Interrupt
from bitproof.core.errors import ChecksumError

FOLDER = Path("data")
"""Where files go if nothing else is said; bitproof looks there, too."""
VARIABLE = "BITPROOF_DATA"
Kind = Annotated[
    str,
    typer.Argument(
        autocompletion=one_of(*FETCHED),
        help="What, for example cifar10, resnet20-cifar10 or evoapprox.",
    ),
]
data_app = typer.Typer(help="Data sets: what is there, and getting it.", no_args_is_help=True)


@data_app.command("list")
def list_data(data_dir: DataDir = None) -> None:
    """Tell which data sets are there."""
    from bitproof.data.layout import data_root
    from bitproof.recipe.fetching import everything

    rows = [
        (
            row.kind,
            row.layout if row.present else "-",
            "-" if row.n_train is None else f"{row.n_train:,}",
            "-" if row.n_test is None else f"{row.n_test:,}",
            str(row.path or ("" if row.present else f"bitproof data fetch {row.kind}")),
        )
        for row in everything(data_dir)
    ]
    header = ("data set", "layout", "training images", "test images", "where, or how to get it")
    print_table(header, rows, title="data sets", numbers=False)
    root = data_root(data_dir)
    missing = f"There is no data folder; name it with --data-dir or {VARIABLE}."
    typer.echo(f"Looked in {root}." if root else missing)
    typer.echo("Your own: folder:DIR, npz:FILE, parquet:DIR or package.module:function.")


@data_app.command("fetch")
def fetch_data(
    kind: Kind,
    data_dir: DataDir = None,
    mirror: Annotated[
        str | None, typer.Option(help="Take the files from this address instead.")
    ] = None,
) -> None:
    """Download a data set, weights (resnet20-cifar10) or multipliers (evoapprox), and check it."""
    from bitproof.recipe.fetching import fetch_anything

    folder = (data_dir or FOLDER).expanduser()
    if data_dir is None:
        typer.echo(f"No --data-dir, and {VARIABLE} is not set: files go to ./{FOLDER}.")
    with report_problems(Interrupt(lambda: "what came is kept, the same command goes on")):
        paths = fetch_anything(kind, folder, progress=watcher(), mirror=mirror)
    for path in paths:
        typer.echo(f"{path}: in place")


@data_app.command("verify")
def verify_data(kind: Kind, data_dir: DataDir = None) -> None:
    """Compare the files of a data set with the published checksums."""
    from bitproof.recipe.fetching import verify_anything

    checks = verify_anything(kind, data_dir)
    rows = [("ok" if check.ok else "wrong", check.file, check.status) for check in checks]
    print_table(("", "file", "check"), rows, title=kind, numbers=False)
    wrong = [f"{check.file}: {check.status}" for check in checks if not check.ok]
    if wrong:
        raise ChecksumError("\n".join(wrong))
