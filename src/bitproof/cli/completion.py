"""What shells complete: kinds of components, read from the source, without importing torch."""

import re
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parents[1]
KIND = re.compile(r'^@(\w+)\.register\n(?:.*\n)+?    kind: Literal\["(\w+)"\]', re.MULTILINE)
SITES = (
    *("weight", "bias", "activation", "output", "input", "operand", "weight_operand", "product"),
    *("accumulator", "systolic", "pe_input", "pe_weight", "pe_product", "pe_sum"),
)
FETCHED = (
    *("cifar10", "cifar100", "digits", "evoapprox", "fashion_mnist", "gtsrb", "mnist"),
    *("resnet20-cifar10", "resnet32-cifar10", "resnet44-cifar10", "resnet56-cifar10"),
)
"""What `bitproof data` knows."""
DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("auto", "in_process", "processes", "ray")


def kinds_in(*registries: str) -> list[str]:
    """Return the kinds that registries hold, by the names of those; of all, if none is named.

    Example:
        >>> "digits" in kinds_in("DATA"), "digits" in kinds_in("MODELS")
        (True, False)
    """
    texts = (path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    found = (pair for text in texts for pair in KIND.findall(text))
    return sorted({kind for registry, kind in found if not registries or registry in registries})


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


def kind_of(*registries: str) -> Callable[[str], list[str]]:
    """Return what completes a kind of some registries."""

    def complete(incomplete: str) -> list[str]:
        return [kind for kind in kinds_in(*registries) if kind.startswith(incomplete)]

    return complete
