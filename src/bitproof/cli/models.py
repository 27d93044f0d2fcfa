"""The architectures: the list of them, and what was checked."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import typer

from bitproof.cli.console import print_table, watcher
from bitproof.core.errors import ModelError
from bitproof.models import MODELS
from bitproof.recipe.model_checks import (
    TOLERANCE,
    PretrainedCheck,
    SizeCheck,
    check_pretrained,
    check_sizes,
)


def list_models() -> str:
    """Return one line for each architecture."""
    width = max(map(len, MODELS.kinds())) + 2
    lines = [
        f"{kind:{width}}{inspect.getdoc(MODELS.find(kind))}".splitlines()[0]
        for kind in MODELS.kinds()
    ]
    return "\n".join([*lines, "", "Parameters and sources: bitproof describe KIND"])


def check_models(kinds: Sequence[str], data_dir: Path | None) -> None:
    """Print sizes against published ones, and int8 against float accuracy.

    Raises:
        UnknownKindError: there is no such architecture.
        ModelError: something is not as published, or integers cost too much.
        DataError: pretrained weights are there, CIFAR-10 is not.
    """
    wanted = [MODELS.find(kind).model_fields["kind"].default for kind in kinds] or MODELS.kinds()
    watch = watcher()
    sizes = check_sizes(wanted, progress=watch)
    header = ("model", "images", "classes", "parameters", "published", "forward", "", "source")
    if sizes:
        rows = map(_size_row, sizes)
        print_table(header, rows, title="parameters and one forward pass", numbers=False)
    unknown = sorted(set(wanted) - {check.size.spec.kind for check in sizes})
    if unknown:
        typer.echo(f"No published size is known for: {', '.join(unknown)}.")
    pretrained = check_pretrained(wanted, data_dir, progress=watch)
    if pretrained:
        title = "CIFAR-10 test set, pretrained weights: accuracy, %"
        names = ("model", "weights", "float32", "int8", "difference", "")
        print_table(names, map(_pretrained_row, pretrained), title=title, numbers=False)
    else:
        typer.echo("No pretrained weights of these in the data folder: int8 was not compared.")
    wrong = [f"{check.size.spec.kind}: not as published" for check in sizes if not check.passed]
    wrong += [
        f"{check.kind}: int8 costs more than {100 * TOLERANCE:g} points"
        for check in pretrained
        if not check.passed
    ]
    if wrong:
        raise ModelError("\n".join(wrong))


def _size_row(check: SizeCheck) -> Sequence[str]:
    size = check.size
    known = len(str(size.parameters)) <= size.digits
    return (
        size.spec.kind,
        f"{size.in_channels} x {size.image_size} x {size.image_size}",
        str(size.n_classes),
        f"{check.parameters:,}",
        f"{size.parameters:,}" if known else f"{size.parameters / 1e6:g} million",
        f"{1000 * check.seconds:.0f} ms",
        "ok" if check.passed else "wrong",
        size.source,
    )


def _pretrained_row(check: PretrainedCheck) -> Sequence[str]:
    floats, integers = check.floats.acc, check.integers.acc
    return (
        check.kind,
        check.weights.name,
        f"{100 * floats:.2f}",
        f"{100 * integers:.2f}",
        f"{100 * (integers - floats):+.2f}",
        "ok" if check.passed else "wrong",
    )
