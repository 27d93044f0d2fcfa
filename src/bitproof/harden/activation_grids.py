"""Activation grids in training: what each layer reads is rounded as the deployed network rounds it.

Model:  before each epoch the model is quantized as it will be deployed, which gives the grid of
        every activation; until the next epoch, the input of each layer is clipped and rounded to
        its grid, and the gradient passes where it was not clipped. Sums of branches and pooled
        maps are rounded where the next layer reads them. What reads several tensors, or is called
        several times, reads floats.
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn

from bitproof.quant.build import quantize_graph
from bitproof.quant.grid import Grid
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.scheme import Scheme
from bitproof.quant.trace import trace


@dataclass(eq=False)
class ActivationGrids:
    """The grid of what each layer of one model reads, by path of the layer.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> grids = ActivationGrids(model, torch.rand(8, 2), Scheme(activation_bits=2))
        >>> grids.measure()
        >>> with grids.running():
        ...     seen = model[0](torch.tensor([[0.4, 2.0]]))
        >>> bool(torch.equal(seen, model[0](torch.tensor([[1 / 3, 1.0]]))))
        True
    """

    model: nn.Module
    images: Num[Tensor, "n *features"]
    """Calibration images."""
    scheme: Scheme
    grids: dict[str, Grid] = field(default_factory=dict)
    epoch: int = -1
    """Epoch that the grids were measured before."""

    def measure(self) -> None:
        """Quantize the model as it is now, and take the grids of its activations."""
        graph = trace(self.model, self.images[:2])
        network = quantize_graph(graph, self.images, self.scheme)
        modules = dict(self.model.named_modules())
        times = Counter(node.path for node in graph.nodes)
        self.grids = {
            node.path: network.grids[node.inputs[0]]
            for node in graph.nodes
            if node.path in modules
            and times[node.path] == 1
            and node.inputs
            and node.inputs[0] in network.grids
        }

    def follow(self, epoch: int) -> None:
        """Measure anew where a new epoch begins."""
        if epoch > self.epoch:
            self.measure()
            self.epoch = epoch

    @contextmanager
    def running(self) -> Iterator[None]:
        """Round what layers read, inside the block."""
        hooks = [
            self.model.get_submodule(path).register_forward_pre_hook(
                _rounding(grid, self.scheme.activation_rounding)
            )
            for path, grid in self.grids.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return grids and epoch."""
        tensors: dict[str, Tensor] = {}
        notes: dict[str, Any] = {}
        for number, (path, grid) in enumerate(self.grids.items()):
            tensors |= {f"{number}.scale": grid.scale, f"{number}.zero_point": grid.zero_point}
            notes[path] = [grid.bits, grid.signed]
        return tensors, {"grids": notes, "epoch": self.epoch}

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Take them back."""
        device, self.epoch = self.images.device, notes["epoch"]
        for number, (path, (bits, signed)) in enumerate(notes["grids"].items()):
            grid = Grid(tensors[f"{number}.scale"], tensors[f"{number}.zero_point"], bits, signed)
            self.grids[path] = grid.to(device)


def _rounding(grid: Grid, rounding: str) -> Any:
    """Return a hook that puts the first input of a layer on a grid."""
    scale, point = grid.scale, grid.zero_point
    low, high = (scale * (end - point) for end in (grid.low, grid.high))

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        clipped = torch.minimum(torch.maximum(inputs[0], low), high)
        codes = clipped.detach() / scale + point
        codes = codes.round() if rounding == "nearest" else codes.trunc()
        rounded = ((codes - point) * scale).to(clipped.dtype)
        return pass_gradient(clipped, rounded), *inputs[1:]

    return hook
