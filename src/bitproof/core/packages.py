"""Optional packages: which a component needs, and told before hours of work rather than after.

A component says so in `packages`; `check_packages` asks whatever a recipe holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from bitproof.core.errors import AdapterError
from bitproof.core.spec import Spec


@dataclass(frozen=True)
class Package:
    """A package that one component or another needs.

    Example:
        >>> Package("json", wanted_by="toy", install="pip install json").is_there
        True
    """

    module: str
    """What is imported."""
    wanted_by: str
    """Who needs it, for messages."""
    install: str
    """The command that installs it."""

    @property
    def is_there(self) -> bool:
        """Whether it is installed; it is not imported."""
        return find_spec(self.module) is not None

    @property
    def problem(self) -> str:
        """What is said where it is missing."""
        return (
            f"{self.wanted_by}: wanted the optional package '{self.module}', which is not "
            f"installed; run: {self.install}"
        )

    def load(self) -> ModuleType:
        """Return the package.

        Raises:
            AdapterError: it is not installed.
        """
        try:
            return import_module(self.module)
        except ModuleNotFoundError as error:
            raise AdapterError(self.problem) from error


def check_packages(*values: Any) -> None:
    """Check that all packages are there that specs need, and those inside them.

    Raises:
        AdapterError: some are missing; one line for each.
    """
    wanted = dict.fromkeys(package for value in values for package in packages_of(value))
    if missing := [package.problem for package in wanted if not package.is_there]:
        raise AdapterError("\n".join(missing))


def packages_of(value: Any) -> Iterator[Package]:
    """Yield the packages that a spec, or specs in lists and tables, need."""
    if isinstance(value, Spec):
        yield from value.packages
        value = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from packages_of(part)
