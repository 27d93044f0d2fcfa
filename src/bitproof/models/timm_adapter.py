"""Architectures of the package timm, by name, without their weights.

Model:  `timm.create_model` builds the network, and a `Normalize` layer before it takes images in
        [0, 1] to what the network was made for. Nothing is downloaded.
Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

import importlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from bitproof.core.errors import AdapterError, ModelError, shorten
from bitproof.core.packages import Package
from bitproof.models.base import MODELS, ImageModelSpec, Normalize


@MODELS.register
class Timm(ImageModelSpec):
    """A network of the optional package timm; in recipes also `model = "timm:NAME"`.

    Networks made for one size of image are made for the one of the data. A digest covers the name,
    not the version of timm.

    Example:
        >>> Timm(name="resnet18").kind
        'timm'
    """

    packages: ClassVar[tuple[Package, ...]] = (
        Package("timm", wanted_by="timm", install="pip install timm"),
    )

    kind: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """As `timm.list_models()` has it."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network behind its normalisation."""
        timm = _import_timm()
        known = timm.list_models()
        if self.name.partition(".")[0] not in known:
            raise ModelError(f"timm: no model {shorten(self.name)}. {_nearest(self.name, known)}")
        sizes: dict[str, int] = {"in_chans": in_channels, "num_classes": n_classes}
        config = timm.get_pretrained_cfg(self.name)
        if config is not None and config.fixed_input_size:
            sizes["img_size"] = image_size
        try:
            network: nn.Module = timm.create_model(self.name, pretrained=False, **sizes)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"timm: cannot build {shorten(self.name)} for {in_channels} x {image_size} x "
                f"{image_size} images ({reason})"
            ) from error
        return nn.Sequential(self._normalize_for(network, in_channels), network)

    def _normalize_for(self, network: nn.Module, in_channels: int) -> Normalize:
        """Return the first layer: as the fields say, else as the network was trained."""
        default: Mapping[str, Any] = getattr(network, "default_cfg", None) or {}
        mean, std = default.get("mean"), default.get("std")
        if self.mean or not mean or not std or len(mean) != in_channels:
            return self.normalize(in_channels)
        return Normalize(mean, std)


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise AdapterError(
            f"timm: wanted the optional package 'timm' with all that it needs ({error}); run: "
            "pip install timm"
        ) from error


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint of at most three names, because timm knows more than a thousand."""
    close = get_close_matches(name, known, n=3)
    listed = " or ".join(f"'{one}'" for one in close)
    return f"Did you mean {listed}?" if close else "timm.list_models() lists them."
