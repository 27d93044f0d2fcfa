"""Which data sets are here, whether they are right, and getting them."""

from pathlib import Path

import typer

from bitproof.cli.outcome import report_problems
from bitproof.cli.tables import print_table
from bitproof.cli.watching import watcher
from bitproof.core.errors import ChecksumError
from bitproof.data.fetch import fetch
from bitproof.data.inventory import available, verify
from bitproof.data.layout import VARIABLE, data_root

FOLDER = Path("data")
"""Where files go if nothing else is said; bitproof looks there, too."""
HOW = f"name it with --data-dir or {VARIABLE}"


def list_data(data_dir: Path | None) -> None:
    """Print one line for each data set and each layout in which it is there."""
    rows = [
        (
            row.kind,
            row.layout if row.present else "-",
            "-" if row.n_train is None else f"{row.n_train:,}",
            "-" if row.n_test is None else f"{row.n_test:,}",
            str(row.path or ("" if row.present else f"bitproof data fetch {row.kind}")),
        )
        for row in available(data_dir)
    ]
    header = ("data set", "layout", "training images", "test images", "where, or how to get it")
    print_table(header, rows, title="data sets", numbers=False)
    root = data_root(data_dir)
    typer.echo(f"Looked in {root}." if root else f"There is no data folder; {HOW}.")


def fetch_data(kind: str, data_dir: Path | None, mirror: str | None) -> None:
    """Download a data set and tell where it lies.

    Raises:
        UnknownKindError: there is no such data set.
        ChecksumError: a file is not the one that was published.
        DataError: there is nothing to fetch, or no server gave it.
        StorageError: the disk is full, or the folder cannot be written.
    """
    folder = (data_dir or FOLDER).expanduser()
    if data_dir is None:
        typer.echo(f"No --data-dir, and {VARIABLE} is not set: files go to ./{FOLDER}.")
    with report_problems(interrupted="what came is kept, the same command goes on"):
        paths = fetch(kind, folder, progress=watcher(), mirror=mirror)
    for path in paths:
        typer.echo(f"{path}: in place")


def verify_data(kind: str, data_dir: Path | None) -> None:
    """Print what became of each file of a data set.

    Raises:
        UnknownKindError: there is no such data set.
        ChecksumError: a file is missing, damaged, or not the one that was published.
    """
    checks = verify(kind, data_dir)
    rows = [("ok" if check.ok else "wrong", check.file, check.status) for check in checks]
    print_table(("", "file", "check"), rows, title=kind, numbers=False)
    wrong = [f"{check.file}: {check.status}" for check in checks if not check.ok]
    if wrong:
        raise ChecksumError("\n".join(wrong))
