"""A network that was handed over in Python: a recipe can name it, and not make it."""

import copy
import hashlib
import re
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import nn

from bitproof.core.errors import ModelError
from bitproof.models.base import MODELS, ModelSpec
from bitproof.models.user_module import inside_wrappers

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object lies, as Python prints it: another place in each process."""


@MODELS.register
class InMemoryModel(ModelSpec):
    """Stand for the network of a run that was started with `bp.run(..., model=...)`.

    Its weights are those that it was handed over with; a run knows them and the structure by their
    digest, and does not go on with other ones.

    Example:
        >>> InMemoryModel.of(nn.Flatten()).name
        'Flatten'
    """

    brings_weights: ClassVar[bool] = True

    kind: Literal["in_memory"] = "in_memory"
    name: Annotated[str, Field(max_length=1000)] = ""
    """Class of the module."""
    weights_digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of its structure (as it prints itself, and the class of each part), and of names,
    shapes and values of its weights."""
    _module: nn.Module | None = PrivateAttr(None)

    @classmethod
    def of(cls, module: nn.Module) -> "InMemoryModel":
        """Return the spec that makes copies of a module.

        Raises:
            ModelError: it is no module as written in Python.
        """
        inside = copy.deepcopy(inside_wrappers(module)).cpu()
        state = hashlib.sha256(_structure(inside).encode())
        for name, value in inside.state_dict().items():
            state.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            state.update(value.contiguous().reshape(-1).view(dtype=torch.uint8).numpy().data)
        spec = cls(name=type(inside).__name__, weights_digest=state.hexdigest())
        spec._module = inside
        return spec

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:  # noqa: ARG002
        """Return a copy of the module.

        Raises:
            ModelError: it is gone with the process that had it.
        """
        if self._module is None:
            raise ModelError(
                f"in_memory: {self.name or 'the network'} was handed over in Python; call "
                "bp.run(..., model=...), or name another model"
            )
        return copy.deepcopy(self._module)


def _structure(module: nn.Module) -> str:
    """Return what a module and its parts are, without their weights."""
    kinds = [
        f"{name} {type(part).__module__}.{type(part).__qualname__}"
        for name, part in module.named_modules()
    ]
    return "\n".join([ADDRESS.sub("", repr(module)), *kinds])
