"""Data that a function of the user's own returns: `package.module:function`.

This runs the user's code, because the user asked for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from bitproof.core.errors import DataError, shorten
from bitproof.core.user_code import NAME, call, find_callable
from bitproof.data.base import DATA
from bitproof.data.dataset import Dataset, Published, Splits
from bitproof.data.own import PARTS, OwnSource, publish

FILES = "; for files say folder:DIR, npz:FILE or parquet:DIR"
ORDERS = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}


@DATA.register
class DataFactory(OwnSource):
    """Call `package.module:function`, which returns splits, data sets or loaders.

    It returns `bp.Splits`; or (train, test) or (train, validation, test), or a dict of them, each
    a `bp.Dataset`, a loader of batches, or a data set of torch or Hugging Face; or one of these,
    from which a test part is cut. The function gets those of `data_dir` and `seed` that its
    signature names, as keywords. A digest of the recipe covers its name; a run remembers the
    digest of the data themselves, and does not go on with other ones.

    Example:
        >>> DataFactory(factory="mine.data:make").factory
        'mine.data:make'
    """

    kind: Literal["factory"] = "factory"
    factory: Annotated[str, Field(pattern=NAME, max_length=1000)]
    """`package.module:function`: beside the recipe, in the working directory, or installed."""
    name: Annotated[str, Field(max_length=100)] = ""
    """What the set is called in results; none: as the function's sets are, else the function."""

    def read(self, data_dir: Path | None) -> Published:
        """Return what the function makes; the user's own errors come as a `DataError`.

        Raises:
            DataError: there is no such function, it fails, or returns something else.
        """
        what = "data factory"
        make = find_callable(self.factory, what=what, problem=DataError, where=FILES)
        offered = {"data_dir": data_dir, "seed": self.split_seed}
        made = call(make, offered, name=self.factory, what=what, problem=DataError)
        if isinstance(made, Splits):
            parts = {"train": made.train, "test": made.test}
            if len(made.validation):
                parts["validation"] = made.validation
            return publish(self, parts, notes=made.notes)
        sets = {part: self._dataset(one, part) for part, one in self._parts(made).items()}
        if "train" not in sets:
            raise DataError(
                f"{what} {shorten(self.factory)}: wanted a training part, there is none"
            )
        return publish(self, sets)

    def _parts(self, made: Any) -> dict[str, Any]:
        """Return what the function made, by part."""
        if isinstance(made, Mapping):
            found = {
                part: next((made[key] for key in keys if key in made), None)
                for part, keys in PARTS.items()
            }
            return {part: one for part, one in found.items() if one is not None}
        if _are_parts(made) and len(made) in ORDERS:
            return dict(zip(ORDERS[len(made)], made, strict=True))
        if isinstance(made, Dataset) or hasattr(made, "__iter__") or hasattr(made, "__getitem__"):
            return {"train": made}
        raise DataError(
            f"data factory {shorten(self.factory)}: wanted bp.Splits, or (train, test) or (train, "
            f"validation, test) of data sets or loaders, got {type(made).__name__}"
        )

    def _dataset(self, made: Any, part: str) -> Dataset:
        name = self.name or self.factory.partition(":")[2]
        if isinstance(made, Dataset):
            return made
        if not (hasattr(made, "__iter__") or hasattr(made, "__getitem__")):
            raise DataError(
                f"data factory {shorten(self.factory)}: wanted a data set or a loader as {part} "
                f"part, got {type(made).__name__}"
            )
        return Dataset.from_loader(made, name=name)


def _are_parts(made: Any) -> bool:
    """Tell whether the function made several sets, not batches of one."""
    if isinstance(made, tuple):
        return True
    kinds = (Dataset, torch.utils.data.Dataset, torch.utils.data.DataLoader)
    return isinstance(made, list) and all(isinstance(one, kinds) for one in made)
