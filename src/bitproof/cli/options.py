"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option(help="Run directory; default runs/NAME.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DataDir = Annotated[
    Path | None, typer.Option(envvar="BITPROOF_DATA", help="Folder that holds the data sets.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
