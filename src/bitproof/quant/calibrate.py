"""Ranges of activations, measured by running the float graph on calibration images."""

from typing import NamedTuple

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
from bitproof.quant.vector_words import vector_words

BATCH = 256
"""Images that run at once; ranges do not depend on it, apart from the sampled percentile."""
SAMPLE = 1 << 16
"""Values kept from each node and batch for percentiles and squared errors."""
SHARES = tuple(0.8**power for power in range(25))
"""Bounds that are tried first, over the largest value: down to 1/200 of it."""
NEAR = (0.85, 0.9, 0.95, 1.05, 1.1, 1.15)
"""Bounds that are tried then, over the best of them."""

Range = tuple[float, float]


def measure_ranges(
    graph: Graph, images: Num[Tensor, "n *features"], scheme: Scheme
) -> dict[str, Range]:
    """Return the range of every node that gets a grid, zero included; of 16-bit words all of it.

    Raises:
        QuantizationError: a node gives NaN or infinity on the calibration images.
    """
    kept: dict[str, list[_Sample]] = {}
    ends: dict[str, Range] = {}
    long = vector_words(graph).outputs if scheme.vector_bits else frozenset[str]()

    def observe(node: Node, value: Tensor) -> None:
        if not is_written(node):
            return
        low, high = float(value.amin()), float(value.amax())
        if not (-float("inf") < low <= high < float("inf")):
            raise QuantizationError(f"{node.path}: gives NaN or infinity on the calibration images")
        before = ends.get(node.name, (0.0, 0.0))
        ends[node.name] = (min(low, before[0]), max(high, before[1]))
        if scheme.calibration != "min_max" and node.name not in long:
            pieces = kept.setdefault(node.name, [])
            pieces.append(_sample(value, node.name, len(pieces)))

    with torch.no_grad():
        for batch in torch.split(images[: scheme.calibration_images], BATCH):
            run_floats(graph, batch, observe=observe)
    quantizer = scheme.activation()
    for name, pieces in kept.items():
        sample = _Sample(*(torch.cat(parts).double() for parts in zip(*pieces, strict=True)))
        if scheme.calibration == "percentile":
            ends[name] = _percentile(sample.values, scheme.percentile, ends[name])
        else:
            relative = scheme.calibration == "relative_mse"
            ends[name] = _least_squares(sample, ends[name], quantizer, relative=relative)
    return ends


class _Sample(NamedTuple):
    """Some of a node's values."""

    values: Tensor
    powers: Tensor
    """Mean square over the whole image that each of the values comes from."""


def _sample(value: Tensor, name: str, batch: int) -> _Sample:
    """Return some of the values; random ones, because a stride would favour columns of maps."""
    images = value.reshape(len(value), -1) if value.ndim > 1 else value.reshape(1, -1)
    powers, flat = images.square().mean(1), images.flatten()
    chosen = torch.arange(len(flat))
    if len(flat) > SAMPLE:
        generator = make_generator(0, "calibration", name, batch)
        chosen = torch.randint(len(flat), (SAMPLE,), generator=generator)
    chosen = chosen.to(value.device)
    return _Sample(flat[chosen], powers[chosen // images.shape[1]])


def _percentile(sample: Tensor, percent: float, ends: Range) -> Range:
    """Return the range that `percent` of the values do not exceed, on either side."""
    ranked = sample.sort().values
    skipped = round((1 - percent / 100) * (len(ranked) - 1))
    low, high = float(ranked[skipped]), float(ranked[len(ranked) - 1 - skipped])
    return max(min(low, 0.0), ends[0]), min(max(high, 0.0), ends[1])


def _least_squares(
    sample: _Sample, ends: Range, quantizer: AffineQuantizer, *, relative: bool
) -> Range:
    """Return the range, clipped at the bound of least squared error of those tried.

    A relative error is one over the image's own power plus the median one, so that a few images
    with huge values do not take the grid away from all the others.
    """
    values, powers = sample
    weights = torch.ones_like(powers)
    if relative:
        weights = 1 / (powers + powers.median()).clamp(min=torch.finfo(torch.float64).tiny)
    reach = max(-ends[0], ends[1])
    work = torch.empty_like(values)

    def error(bound: float) -> float:
        low, high = (torch.tensor([end]).double() for end in _clipped(ends, bound))
        grid = quantizer.grid_for(low, high)
        step, point = float(grid.scale), int(grid.zero_point)
        torch.div(values, step, out=work).round_().clamp_(grid.low - point, grid.high - point)
        return float(work.mul_(step).sub_(values).square_().mul_(weights).sum())

    errors = {share: error(share * reach) for share in SHARES}
    best = min(errors, key=errors.__getitem__)
    near = {best * factor: error(best * factor * reach) for factor in NEAR if best * factor < 1}
    errors |= near
    return _clipped(ends, min(errors, key=errors.__getitem__) * reach)


def _clipped(ends: Range, bound: float) -> Range:
    return max(ends[0], -bound), min(ends[1], bound)
