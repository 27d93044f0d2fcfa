"""How each job behaved when its cells were measured: `results/SIZE/TABLE/behaviour.json`.

A job has a digest for each machine on which the same behaviour was seen: processors round floats
differently, so one behaviour may have several digests. A cell is stale when its own digest is not
among them.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bitproof.core.errors import DataError
from bitproof.core.files import write_text
from bitproof.reproduce.jobs import Job, Size

FILE = "behaviour.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Stamp(BaseModel):
    """The behaviour of one job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digests: dict[str, Digest]
    """At toy size, by machine."""
    equal_to: str = ""
    """Revision that the latest digest was compared with, if any."""


_STAMPS = TypeAdapter(dict[str, Stamp])


def read_stamps(results: Path, size: Size, table: str) -> dict[str, Stamp]:
    """Return the behaviour of each job of a table, as far as it was written down.

    Raises:
        DataError: the file is damaged.
    """
    path = results / size / table / FILE
    if not path.exists():
        return {}
    try:
        return _STAMPS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: wanted the behaviour of jobs in JSON ({error})") from None


def write_stamp(results: Path, job: Job, stamp: Stamp) -> None:
    """Write down how a job behaves, beside what is known of the others.

    Raises:
        StorageError: the place cannot be written.
    """
    stamps = {**read_stamps(results, job.size, job.table.name), job.name: stamp}
    plain = {name: one.model_dump(mode="json") for name, one in sorted(stamps.items())}
    path = results / job.size / job.table.name / FILE
    write_text(path, json.dumps(plain, indent=1) + "\n")
