"""A network of the user's own, by the name of the Python callable that makes it.

This runs the user's code, because the user asked for it. Weights never run anything: see
`checkpoint`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from bitproof.core.errors import ModelError, shorten
from bitproof.core.user_code import NAME, call, find_callable
from bitproof.models.base import MODELS, ModelSpec


@MODELS.register
class Factory(ModelSpec):
    """Call `package.module:callable`; it takes images in [0, 1] and normalises them itself.

    The callable gets those of `in_channels`, `image_size` and `n_classes` that its signature
    names, as keywords. A digest covers the name of the callable, not the code behind it.

    Example:
        >>> import torch
        >>> spec = Factory(factory="torch.nn:Flatten")
        >>> spec.build(in_channels=1, image_size=8, n_classes=2, generator=torch.Generator())
        Flatten(start_dim=1, end_dim=-1)
    """

    brings_weights: ClassVar[bool] = True

    kind: Literal["factory"] = "factory"
    factory: Annotated[str, Field(pattern=NAME)]
    """`package.module:callable`: beside the recipe, in the working directory, or installed."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return what the callable makes; the user's own errors come as a `ModelError`."""
        sizes = {"in_channels": in_channels, "image_size": image_size, "n_classes": n_classes}
        make = find_callable(self.factory, what="factory", problem=ModelError)
        network = call(make, sizes, name=self.factory, what="factory", problem=ModelError)
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"factory {shorten(self.factory)}: wanted it to return a torch.nn.Module, "
                f"got {type(network).__name__}"
            )
        return network
