"""The commands of `bitproof data`."""

from typing import Annotated

import typer

from bitproof.cli.options import DataDir

data_app = typer.Typer(help="Data sets: what is there, and getting it.", no_args_is_help=True)


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
