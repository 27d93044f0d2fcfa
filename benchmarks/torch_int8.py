"""A rival: torch's own post-training quantization (pt2e) with the recipe for x86 CPUs.

Activations per tensor in uint8 by histogram, weights per channel in int8, inputs of convolutions in
two dimensions and of linear layers only; all else stays in floats. The converted graph runs as it
is, which gives the arithmetic that the recipe defines, or is compiled by inductor, which fuses it
into oneDNN's kernels.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

BATCH = 16
"""Samples at a time."""


def quantize_by_torch(
    model: nn.Module,
    samples: Tensor,
    *,
    batch: int = BATCH,
    any_batch: bool = False,
    compiled: bool = False,
) -> Callable[[Tensor], Any]:
    """Return `model` in int8, calibrated on `samples`.

    It takes batches of `batch` samples, or of any number; compiled, the first call takes a minute.

    Raises:
        ImportError: torchao is not installed, and torch has no quantization of its own.
    """
    try:
        package = import_module("torchao.quantization.pt2e.quantize_pt2e")
        recipe = import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    except ImportError:  # before torch 2.10
        package = import_module("torch.ao.quantization.quantize_pt2e")
        recipe = import_module("torch.ao.quantization.quantizer.x86_inductor_quantizer")
    quantizer = recipe.X86InductorQuantizer()
    quantizer.set_global(recipe.get_default_x86_inductor_quantization_config())
    free = ({0: torch.export.Dim("n", min=2, max=4096)},) if any_batch else None
    with torch.no_grad():
        exported = torch.export.export(model, (samples[:batch],), dynamic_shapes=free, strict=False)
        prepared = package.prepare_pt2e(exported.module(), quantizer)
        for part in samples.split(batch):
            prepared(part)
        converted: Callable[[Tensor], Any] = package.convert_pt2e(prepared)
    if not compiled:
        return converted
    import_module("torchao.quantization.pt2e.inductor_passes.x86")  # which adds its patterns
    import_module("torch._inductor.config").freezing = True
    return torch.compile(converted)


def warm_up() -> None:
    """Let torch import what it imports at its first export: half a minute, paid once."""
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.1)
    with suppress(ImportError):
        quantize_by_torch(nn.Sequential(*layers).eval(), torch.rand(BATCH, 3, 8, 8))
