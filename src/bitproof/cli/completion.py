"""What shells complete: kinds of components, read from the source, without importing torch."""

import re
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parents[1]
KIND = re.compile(r'^    kind: Literal\["(\w+)"\]', re.MULTILINE)
SITES = (
    *("weight", "bias", "activation", "output", "input", "operand", "weight_operand", "product"),
    *("accumulator", "systolic", "pe_input", "pe_weight", "pe_product", "pe_sum"),
)
DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("auto", "in_process", "processes", "ray")


def kinds_in(*subpackages: str) -> list[str]:
    """Return the kinds that modules of some subpackages define; of all, if none is named.

    Example:
        >>> "digits" in kinds_in("data"), "digits" in kinds_in("models")
        (True, False)
    """
    folders = [SOURCE / name for name in subpackages] or [SOURCE]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted({kind for path in paths for kind in KIND.findall(path.read_text("utf-8"))})


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words; behind the last comma, if there is one.

    Example:
        >>> one_of("weight", "bias")("bias,we")
        ['bias,weight']
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in words if word.startswith(begun)]

    return complete


def kind_of(*subpackages: str) -> Callable[[str], list[str]]:
    """Return what completes a kind of some subpackages."""

    def complete(incomplete: str) -> list[str]:
        return [kind for kind in kinds_in(*subpackages) if kind.startswith(incomplete)]

    return complete
