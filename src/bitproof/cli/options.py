"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from bitproof.cli.completion import DEVICES, ENGINES, one_of
from bitproof.core.errors import SpecError, shorten
from bitproof.core.lock import Shard

Out = Annotated[Path | None, typer.Option(help="Directory of the run; default runs/NAME.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", autocompletion=one_of(*DEVICES))]
DataDir = Annotated[
    Path | None, typer.Option(envvar="BITPROOF_DATA", help="Folder that holds the data sets.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Yes = Annotated[bool, typer.Option("--yes", help="Go on, even if it takes more than a day.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the recipe, such as evaluation.seed=1; may be repeated.",
    ),
]
Workers = Annotated[int | None, typer.Option(help="Processes, or Ray actors.", max=1024)]
Engine = Annotated[
    str, typer.Option(help="auto, in_process, processes or ray.", autocompletion=one_of(*ENGINES))
]
Threads = Annotated[int | None, typer.Option(help="Threads of this process.", min=1, max=1024)]
Seed = Annotated[
    int, typer.Option("--seed", help="Root of whatever is drawn.", min=0, max=2**63 - 1)
]
ShardOption = Annotated[str | None, typer.Option("--shard", help="K/N: do the K-th of N shares.")]


def parse_shard(text: str) -> Shard:
    """Return number and count of `K/N`."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 10**6):
        raise SpecError(f"shard: wanted K/N with K from 1 to N, such as 2/8, got {shorten(text)}")
    return int(first), int(last)
