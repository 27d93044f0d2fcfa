"""Ranges of activations, measured by running the float graph on calibration images."""

import torch
from jaxtyping import Num
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.quant.floats import run_floats
from bitproof.quant.graph import Graph, Node
from bitproof.quant.operations import is_written
from bitproof.quant.quantizer import AffineQuantizer
from bitproof.quant.scheme import Scheme

BATCH = 256
"""Images that run at once; ranges do not depend on it, apart from the sampled percentile."""
SAMPLE = 1 << 16
"""Values kept from each node and batch for percentiles and squared errors."""

Range = tuple[float, float]


def measure_ranges(
    graph: Graph, images: Num[Tensor, "n *features"], scheme: Scheme
) -> dict[str, Range]:
    """Return the range of every node that gets a grid, zero included.

    Raises:
        QuantizationError: a node gives NaN or infinity on the calibration images.
    """
    kept: dict[str, list[Tensor]] = {}
    ends: dict[str, Range] = {}

    def observe(node: Node, value: Tensor) -> None:
        if not is_written(node):
            return
        low, high = float(value.amin()), float(value.amax())
        if not (-float("inf") < low <= high < float("inf")):
            raise QuantizationError(f"{node.path}: gives NaN or infinity on the calibration images")
        before = ends.get(node.name, (0.0, 0.0))
        ends[node.name] = (min(low, before[0]), max(high, before[1]))
        if scheme.calibration != "min_max":
            pieces = kept.setdefault(node.name, [])
            pieces.append(_sample(value.flatten(), node.name, len(pieces)))

    with torch.no_grad():
        for batch in torch.split(images[: scheme.calibration_images], BATCH):
            run_floats(graph, batch, observe=observe)
    quantizer = scheme.activation()
    for name, pieces in kept.items():
        sample = torch.cat(pieces).double()
        if scheme.calibration == "percentile":
            ends[name] = _percentile(sample, scheme.percentile, ends[name])
        else:
            ends[name] = _least_squares(sample, ends[name], quantizer)
    return ends


def _sample(values: Tensor, name: str, batch: int) -> Tensor:
    """Return some of the values; random ones, because a stride would favour columns of maps."""
    if values.numel() <= SAMPLE:
        return values
    generator = make_generator(0, "calibration", name, batch)
    chosen = torch.randint(values.numel(), (SAMPLE,), generator=generator)
    return values[chosen.to(values.device)]


def _percentile(sample: Tensor, percent: float, ends: Range) -> Range:
    """Return the range that `percent` of the values do not exceed, on either side."""
    ranked = sample.sort().values
    skipped = round((1 - percent / 100) * (len(ranked) - 1))
    low, high = float(ranked[skipped]), float(ranked[len(ranked) - 1 - skipped])
    return max(min(low, 0.0), ends[0]), min(max(high, 0.0), ends[1])


def _least_squares(sample: Tensor, ends: Range, quantizer: AffineQuantizer) -> Range:
    """Return the fraction of the range with the least squared error, of 40 tried."""
    best, result, values = float("inf"), ends, torch.empty_like(sample)
    for fraction in torch.linspace(0.3, 1.0, 40).tolist():
        tried = (ends[0] * fraction, ends[1] * fraction)
        grid = quantizer.grid_for(*(torch.tensor([end], dtype=torch.float64) for end in tried))
        step, point = float(grid.scale), int(grid.zero_point)
        torch.div(sample, step, out=values).round_().clamp_(grid.low - point, grid.high - point)
        error = float(values.mul_(step).sub_(sample).square_().mean())
        if error < best:
            best, result = error, tried
    return result
