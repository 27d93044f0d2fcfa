"""`bitproof verify`: is a directory as it was written?"""

from pathlib import Path

import typer

from bitproof.core.errors import ChecksumError
from bitproof.recipe.verification import verify


def print_verification(folder: Path) -> None:
    """Print what was compared with the manifest.

    Raises:
        ChecksumError: a file is not what the manifest says, one line for each.
        DataError: there is no manifest, or it is damaged.
    """
    found = verify(folder)
    if found.problems:
        raise ChecksumError("\n".join(found.problems))
    state = "complete" if found.complete else "not complete"
    typer.echo(f"{folder}: {found.files} files, {found.size:,} bytes, all as written; {state}")
    if found.unlisted:
        names = ", ".join(found.unlisted[:5]) + (", ..." if len(found.unlisted) > 5 else "")
        typer.echo(f"not in the manifest: {names}")
    typer.echo(f"sha256 of the manifest: {found.sha256}")
