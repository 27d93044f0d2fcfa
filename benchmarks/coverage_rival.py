"""The rival: torch's own post-training quantization (pt2e) with the recipe for x86 CPUs.

Activations per tensor in uint8 by histogram, weights per channel in int8, inputs of convolutions
and linear layers only; all else stays in floats. The converted graph runs as it is, without a
compiler, which gives the arithmetic that the recipe defines.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

import torch
from torch import Tensor, nn

BATCH = 16


def quantize_by_torch(model: nn.Module, samples: Tensor) -> Callable[[Tensor], object]:
    """Return `model` in int8, calibrated on `samples`; it takes batches of `BATCH` samples."""
    try:
        package = import_module("torchao.quantization.pt2e.quantize_pt2e")
        recipe = import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    except ImportError:  # before torch 2.10
        package = import_module("torch.ao.quantization.quantize_pt2e")
        recipe = import_module("torch.ao.quantization.quantizer.x86_inductor_quantizer")
    quantizer = recipe.X86InductorQuantizer()
    quantizer.set_global(recipe.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        exported = torch.export.export(model, (samples[:BATCH],), strict=False).module()
        prepared = package.prepare_pt2e(exported, quantizer)
        for batch in samples.split(BATCH):
            prepared(batch)
        converted: Callable[[Tensor], object] = package.convert_pt2e(prepared)
    return converted


def warm_up() -> None:
    """Let torch import what it imports at its first export: half a minute, paid once."""
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.1)
    with suppress(ImportError):
        quantize_by_torch(nn.Sequential(*layers).eval(), torch.rand(BATCH, 3, 8, 8))
