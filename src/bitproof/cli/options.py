"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option(help="Directory of the run; default runs/NAME.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DataDir = Annotated[
    Path | None, typer.Option(envvar="BITPROOF_DATA", help="Folder that holds the data sets.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the recipe, such as evaluation.seed=1; may be repeated.",
    ),
]
Workers = Annotated[int | None, typer.Option(help="Processes, or Ray actors.")]
Engine = Annotated[str, typer.Option(help="auto, in_process, processes or ray.")]
Threads = Annotated[int | None, typer.Option(help="Threads of this process.", min=1)]
