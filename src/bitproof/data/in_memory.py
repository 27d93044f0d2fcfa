"""Data that were handed over in Python: a recipe can name them, and not load them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bitproof.core.errors import DataError
from bitproof.data.base import DATA
from bitproof.data.dataset import Published
from bitproof.data.own import OwnSource


@DATA.register
class InMemory(OwnSource):
    """Stand for the splits of a run that was started with `bp.run(..., splits=...)`.

    Example:
        >>> InMemory(name="mine").load()
        Traceback (most recent call last):
        bitproof.core.errors.DataError: in_memory: 'mine' was handed over in Python; ...
    """

    kind: Literal["in_memory"] = "in_memory"
    name: Annotated[str, Field(max_length=1000)] = "user"
    """What the set calls itself."""

    def read(self, data_dir: Path | None) -> Published:  # noqa: ARG002 (there is nothing to read)
        """Refuse: the data are gone with the process that had them.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"in_memory: '{self.name}' was handed over in Python; call bp.run(..., splits=...), or "
            "name another data set"
        )
