"""Inference of ResNets on integers: 8-bit products against floats; 64 images of 32x32.

rival: the float32 module in evaluation mode, as torch runs it without a compiler.
ours:  `IntegerNetwork`, whose convolutions multiply 8-bit words with oneDNN.
limit: oneDNN's convolutions of the same words and weights alone, without bias, cut or sums.
Two threads. Weights are random, which does not change the time; the words are first compared
with those of the execution in floats that hold the same integers, which all machines share.
"""

import torch
from table import Row, interleave, json_path, save, show
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.kernels.int8_convolution import INT8, pack, supported
from bitproof.models import ImageModelSpec, ResNet18, ResNet20
from bitproof.quant import IntegerNetwork, Node, quantize, run_integers
from bitproof.quant.grid import Grid
from bitproof.quant.onednn import as_kernel

MODELS: dict[str, ImageModelSpec] = {"ResNet-18": ResNet18(), "ResNet-20": ResNet20()}
BATCH = 64
ROUNDS = 9
THREADS = 2


class BareConvolutions:
    """Every convolution of a network, on the words that it gets there, weights cut to int8."""

    def __init__(self, network: IntegerNetwork, images: Tensor) -> None:
        words: dict[str, Tensor] = {}

        def keep(node: Node, stored: Tensor, grid: Grid) -> Tensor:
            assert not grid.signed
            words[node.name] = stored
            return stored

        run_integers(network, images, corrupt=keep)
        self.calls = []
        for node in network.nodes:
            constants = network.constants[node.name]
            if node.op == "conv" and node.inputs[0] in words:
                assert constants.weight is not None
                weight, geometry = as_kernel(constants.weight, node)
                codes = weight.clamp(INT8.min, INT8.max).to(torch.int8)
                packed = pack(codes, constants.zero_points[0], geometry)
                self.calls.append((packed, words[node.inputs[0]]))

    def __call__(self) -> None:
        """Run them, one after the other."""
        for packed, words in self.calls:
            packed.convolve(words)


def main() -> None:
    path = json_path("Integer against float inference.")
    torch.set_num_threads(THREADS)
    if not supported():
        raise QuantizationError("wanted a CPU with exact 8-bit products (VNNI); see onednn.py")
    images = torch.rand(BATCH, 3, 32, 32, generator=make_generator(0, "images"))
    best: list[Row] = []
    middle: list[Row] = []
    for name, spec in MODELS.items():
        model = spec.build(
            in_channels=3, image_size=32, n_classes=10, generator=make_generator(0)
        ).eval()
        network = quantize(model, images)
        assert torch.equal(network(images), run_integers(network, images, native=False))
        bare = BareConvolutions(network, images)
        work = {
            "rival": lambda model=model: model(images),
            "ours": lambda network=network: network(images),
            "limit": bare,
        }
        with torch.no_grad():
            times = interleave(work, rounds=ROUNDS)
        for rows, rank in ((best, 0), (middle, ROUNDS // 2)):
            rival, ours, limit = (times[case][rank] for case in work)
            rows.append(Row(f"{name}, {BATCH} images", rival, ours, limit))
    show(f"Minima of {ROUNDS} rounds (the rows of --json)", best)
    show(f"Medians of {ROUNDS} rounds", middle)
    if path:
        save(path, best)


if __name__ == "__main__":
    main()
