"""The user's own judgement: a function from outputs and labels to right or wrong.

Model:  the function judges each image on its own. SDC-1: an image is judged otherwise than without
        the fault. No loss is known, so attacks have nothing to climb.
"""

import hashlib
import inspect
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import field_validator
from torch import Tensor

from bitproof.core.errors import DataError, SpecError, shorten
from bitproof.core.spec import canonical_json
from bitproof.core.user_code import ClashError, import_user_module
from bitproof.metrics.task import TASKS, AllLabels, Labels, Outputs, Task, finite

Judge = Callable[[Tensor, Tensor], Tensor]
"""Maps outputs and labels to one bool an image."""


@TASKS.register
class Own(Task):
    """Judge by a function of the user's.

    Example:
        >>> Own(function="torch:equal").function
        'torch:equal'
    """

    outcomes: ClassVar[tuple[str, ...]] = ("masked", "sdc1", "due")
    has_loss: ClassVar[bool] = False

    kind: Literal["own"] = "own"
    function: str
    """`package.module:name` of a function from outputs and labels to one bool an image."""

    @field_validator("function")
    @classmethod
    def _check_function(cls, function: str) -> str:
        _find(function)
        return function

    @classmethod
    def of(cls, function: Judge) -> "Own":
        """Return the task that a function makes.

        Raises:
            SpecError: it cannot be found by its name, as workers and stored results must.
        """
        name = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
        try:
            known = _find(name)
        except ValueError:
            known = None
        if known is not function:
            raise SpecError(
                "task: wanted a function that its module has under its name, so that workers find "
                f"it, got {name.replace(':', '.')}"
            )
        return cls(function=name)

    @property
    def identity(self) -> str:
        """Return the digest of name and source: another function gives other results."""
        try:
            source = inspect.getsource(_find(self.function))
        except (OSError, TypeError):
            source = ""
        return hashlib.sha256(canonical_json([self.function, source]).encode()).hexdigest()

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say that the function fails on the first images, or gives no bool for each of them."""
        n = min(len(outputs), len(labels))
        try:
            found = _find(self.function)(outputs[:n], labels[:n])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            return f"fails in {self.function}: {' '.join(str(error).split())}"
        return self._odd(found, n)

    def _odd(self, found: object, n: int) -> str:
        if isinstance(found, Tensor) and found.dtype == torch.bool and found.shape == (n,):
            return ""
        came = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found)
        return f"wants {n} bools from {self.function}, one an image, got {came}"

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return what the function says; an answer that is not finite is wrong.

        Raises:
            DataError: it gives something else than a bool for each image.
        """
        if not len(outputs):
            return torch.zeros(0, dtype=torch.bool, device=outputs.device)
        found = _find(self.function)(outputs, labels)
        if problem := self._odd(found, len(outputs)):
            raise DataError(f"task 'own' {problem}")
        return found & finite(outputs)

    def changes(
        self, outputs: Outputs, golden: Outputs, labels: Labels
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return where the function says otherwise."""
        return {"sdc1": self.right(outputs, labels) != self.right(golden, labels)}

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:  # noqa: ARG002
        """Refuse: there is none.

        Raises:
            SpecError: always.
        """
        raise SpecError(f"task 'own': wanted a task with a loss to climb, got {self.function}")

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Refuse: there is none.

        Raises:
            SpecError: always.
        """
        raise SpecError(f"task 'own': wanted a task with a loss to climb, got {self.function}")

    def describe(self, outputs: Outputs) -> str:  # noqa: ARG002
        """Return the name of the function."""
        return f"own ({self.function})"


def read_task(task: Task | Judge | str) -> Task:
    """Return the task that is meant: a task, the kind of one, or a function that judges.

    Raises:
        SpecError: a parameter is missing, or the function cannot be found by its name.
        UnknownKindError: there is no such kind.

    Example:
        >>> read_task("binary")
        Binary(kind='binary', probabilities=None)
    """
    if isinstance(task, Task | str):
        return TASKS.build(task)
    if not callable(task):
        raise SpecError(f"task: wanted a task, its kind or a function, got {shorten(task)}")
    return Own.of(task)


def _find(name: str) -> Judge:
    """Return a function by its name, or raise a ValueError."""
    module, _, path = name.partition(":")
    try:
        found: object = import_user_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except ClashError as error:
        raise ValueError(str(error)) from None
    except (ImportError, AttributeError, ValueError):
        found = None
    if not path or not callable(found):
        raise ValueError(f"wanted 'package.module:name' of a function, got {shorten(name)}")
    return found
