"""Does the code still do what it did when the cells were measured? Jobs at toy size, and a verdict.

A change that keeps every digest is number-neutral: files may move and names may change, and no
cell becomes stale by it. `results/SIZE/TABLE/behaviour.json` holds the digests of each job, one for
each machine on which the same behaviour was seen: processors round floats differently. A cell is
stale when its own digest is not among them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bitproof.core.errors import BitproofError, DataError
from bitproof.core.files import write_text
from bitproof.reproduce.behaviour import behaviours, behaviours_at, job_key, machine
from bitproof.reproduce.jobs import Job, Size

Verdict = Literal["equal", "changed", "other machine", "new", "failed"]
"""`other machine`: digests are there, none of them from here. `new`: there is none to compare."""


FILE = "behaviour.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class Checked:
    """How one job behaves today."""

    job: Job
    verdict: Verdict
    digest: str = ""
    problem: str = ""
    """What stood in the way, if it failed."""


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


def check(jobs: Sequence[Job], results: Path, data_dir: Path | None = None) -> Iterator[Checked]:
    """Yield each job with a verdict against the digests beside its cells; writes nothing."""
    for job, found in behaviours(jobs, data_dir):
        if isinstance(found, BitproofError):
            yield Checked(job, "failed", problem=str(found))
        else:
            stamp = read_stamps(results, job.size, job.table.name).get(job.name)
            yield Checked(job, verdict(stamp, found), found)


def check_against(
    revision: str, jobs: Sequence[Job], data_dir: Path | None = None
) -> Iterator[Checked]:
    """Yield each job with a verdict against an older revision, run on this machine.

    Raises:
        RecipeError: there is no such revision, or it cannot tell how it behaves.
    """
    before = behaviours_at(revision, jobs, data_dir)
    for job, found in behaviours(jobs, data_dir):
        if isinstance(found, BitproofError):
            yield Checked(job, "failed", problem=str(found))
        elif job_key(job) not in before:
            yield Checked(job, "new", found)
        else:
            equal = before[job_key(job)] == found
            yield Checked(job, "equal" if equal else "changed", found)


def verdict(stamp: Stamp | None, digest: str) -> Verdict:
    """Return how today's digest stands to those that are written down."""
    if stamp is None:
        return "new"
    if digest in stamp.digests.values():
        return "equal"
    return "changed" if machine() in stamp.digests else "other machine"


def write_down(job: Job, digest: str, results: Path, *, equal_to: str = "") -> Verdict:
    """Write today's digest of a job beside its cells; return how it stood to what was there.

    What is known of other machines stays, unless the job now behaves differently: then its cells
    become stale. `equal_to` names the revision that was found equal on this machine.

    Raises:
        StorageError: the place cannot be written.
    """
    stamp = read_stamps(results, job.size, job.table.name).get(job.name)
    found = "equal" if equal_to else verdict(stamp, digest)
    known = {} if stamp is None or found == "changed" else stamp.digests
    revision = equal_to or (stamp.equal_to if stamp and found != "changed" else "")
    write_stamp(results, job, Stamp(digests={**known, machine(): digest}, equal_to=revision))
    return found
