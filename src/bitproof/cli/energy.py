"""`bitproof energy`: how low the voltage may go, network by network."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from bitproof.core.errors import DataError, SpecError, near, shorten
from bitproof.core.files import write_text
from bitproof.report.energy import energy_text, line_name
from bitproof.report.fault_counts import RateThreat, Unmeasured, rate_threats
from bitproof.report.operating_points import EnergyQuestion, OperatingPoint, operating_points
from bitproof.report.run import Run, read_unfinished_run
from bitproof.stats.voltage import PUBLISHED, read_voltage_table


def print_energy(
    directory: Path,
    *,
    max_drop: float,
    against: str | None,
    threat: str | None,
    table: Path | None,
    weight_traffic: bool,
    decoder: float,
    json_path: Path | None,
) -> None:
    """Print the lowest safe voltage of each network of a run, and what it saves."""
    if not 0 <= max_drop <= 100:
        raise SpecError(f"--max-drop: wanted percentage points from 0 to 100, got {max_drop:g}")
    question = EnergyQuestion(
        max_drop=max_drop / 100,
        against=against,
        table=PUBLISHED if table is None else read_voltage_table(table),
        weight_traffic=weight_traffic,
        decoder=decoder,
    )
    run = read_unfinished_run(directory)
    answers = operating_points(run, question, _chosen(run, directory, threat))
    found = [each for each in answers if isinstance(each, OperatingPoint)]
    missing = [each for each in answers if isinstance(each, Unmeasured)]
    if not found:
        first = f"; {missing[0].variant}: {missing[0].reason}" if missing else ""
        raise DataError(f"{directory}: no network is measured under memory faults yet{first}")
    reference = f"that of '{against}'" if against else "its own"
    points = "point" if max_drop == 1 else "points"
    typer.echo(
        f"loss of mean accuracy: at most {max_drop:g} {points} from {reference} without faults; "
        "in brackets: 95 % between chips"
    )
    for one in found:
        typer.echo(f"{line_name(one, found)}: {energy_text(one)}")
    for other in missing:
        typer.echo(f"{other.variant} {other.threat.title}: not yet, {other.reason}")
    for note in _notes(found, question):
        typer.echo(note)
    if json_path is not None:
        write_text(json_path, json.dumps(_plain(found, missing, question), indent=1) + "\n")


def _chosen(run: Run, directory: Path, name: str | None) -> list[RateThreat]:
    """Return the threats that are asked for."""
    threats = rate_threats(run)
    if not threats:
        others = ", ".join(run.facts.threats) or "none"
        raise DataError(
            f"{directory}: wanted a run with memory faults by bit error rate, got threats: {others}"
        )
    titles = [each.title for each in threats]
    if name is not None and name not in titles:
        raise SpecError(f"--threat: no memory fault {shorten(name)}. {near(name, titles)}")
    return [each for each in threats if name in {None, each.title}]


def _notes(found: Sequence[OperatingPoint], question: EnergyQuestion) -> list[str]:
    """Return what a reader has to know of the numbers."""
    of_what = "per weight, in 8-bit words" if question.weight_traffic else "per access"
    notes = [f"energy {of_what}; voltages: {question.table.source}"]
    smaller = next((each for each in found if each.counts.images != each.clean.images), None)
    if smaller is not None:
        notes.append(
            f"note: chips classified {smaller.counts.images} images, the clean network "
            f"{smaller.clean.images}; the brackets hold what that may matter"
        )
    if any(each.counts.threat.protections for each in found):
        notes.append(
            f"note: what protections store is charged, and {question.decoder:g} for each decoding"
        )
    return notes


def _plain(
    found: Sequence[OperatingPoint], missing: Sequence[Unmeasured], question: EnergyQuestion
) -> dict[str, object]:
    """Return all answers as plain values."""
    return {
        "max_drop": question.max_drop,
        "against": question.against,
        "weight_traffic": question.weight_traffic,
        "table": question.table.model_dump(mode="json"),
        "points": [each.to_dict() for each in found],
        "missing": [
            {"variant": each.variant, "threat": each.threat.title, "reason": each.reason}
            for each in missing
        ],
    }
