"""Layers of ResNets through tables of products, as calls to be timed; see `approx.py`.

Every case is compared with plain gathering before it is handed out. Each path gets its words in the
memory layout in which its own kind of layer puts them out: some lie channels last.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from benchmark_tables import Tables
from jaxtyping import Int32, UInt8
from plain_gather import PlainGather
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.rng import make_generator
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.library import library
from bitproof.kernels.look_up import LookUp
from bitproof.quant import Scheme, quantize
from bitproof.quant.arithmetic import requantize_
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.products import Products
from bitproof.quant.quantizer import AffineQuantizer

SCHEME = Scheme(
    weight=AffineQuantizer(symmetric=True, signed=True),
    bias=None,
    activation_signed=True,
    activation_symmetric=True,
)
NODE = "0"
CHECKED = 2
"""Images whose sums and words are compared with plain gathering."""
MIXED = ("any", "second", "third", "fourth")
"""Tables that filters take in turn."""


@dataclass(frozen=True)
class Shape:
    """A convolution of 3x3 that keeps the number of channels and the size of the map."""

    channels: int
    side: int

    def __str__(self) -> str:
        return f"{self.channels}->{self.channels} {self.side}x{self.side}"

    def products(self, images: int) -> int:
        """Return how many products there are, with those of padding."""
        return images * self.channels**2 * 9 * self.side**2


@dataclass(frozen=True)
class Timed:
    """A call, and how many products it takes."""

    call: Callable[[], object]
    products: int


class Layer:
    """One layer, its words, and all ways to run it."""

    def __init__(self, shape: Shape, tables: Tables, gather: PlainGather, *, batch: int) -> None:
        self.shape, self.tables, self.gather, self.batch = shape, tables, gather, batch
        generator = make_generator(0, "images", str(shape))
        channels, maps = shape.channels, (batch, shape.channels, shape.side, shape.side)
        convolution = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(convolution.weight, std=0.02, generator=generator)
        model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
        images = torch.rand(maps, generator=generator)
        self.network = quantize(model, images[:CHECKED], SCHEME)
        self.words = torch.randint(-127, 128, maps, generator=generator).to(torch.int8)
        self.convolution, self.images = convolution, images
        self.node = next(node for node in self.network.nodes if node.name == NODE)
        self.weight = self.network.tensors[f"{NODE}.weight"].codes.view(torch.uint8)

    def limits(self) -> dict[str, Timed]:
        """Return the convolutions in float32, and the exact one of words of 8 bits."""
        weight, bias = self.convolution.weight.detach(), self.convolution.bias
        last = torch.channels_last
        images, kernel = (x.contiguous(memory_format=last) for x in (self.images, weight))
        return {
            "float32": self._timed(lambda: functional.conv2d(self.images, weight, bias, padding=1)),
            "float32, channels last": self._timed(
                lambda: functional.conv2d(images, kernel, bias, padding=1)
            ),
            "exact int8": self._run(self.network, self.words, self._exact_table()),
        }

    def rival(self) -> Timed:
        """Return plain gathering, of fewer images: it is linear in them."""
        few = self.words[: min(torch.get_num_threads(), self.batch)].view(torch.uint8)
        return Timed(lambda: self._gather(few, self.weight, "any"), self.shape.products(len(few)))

    def kernels(self) -> dict[str, Timed]:
        """Return look-ups of columns that are there already: no im2col, no requantization."""
        if library() is None:
            return {}
        few = self.words.clamp(min=0)
        return {
            "any table: kernel": self._kernel("any", self.words),
            "any table, 7-bit words: kernel": self._kernel("any", few),
            "one-byte table: kernel": self._kernel("byte", self.words),
        }

    def layers(self) -> dict[str, Timed]:
        """Return whole layers: words in, words out."""
        cases = {name: self._layer((name,), self.words) for name in self.tables.entries}
        return {
            "any table": cases["any"],
            "any table, 7-bit words": self._layer(("any",), self.words.clamp(min=0)),
            "one-byte table": cases["byte"],
            **{f"rank {rank}": cases[f"rank {rank}"] for rank in (1, 3, 4, 5)},
            "4 tables, filter by filter": self._layer(MIXED, self.words),
        }

    def _timed(self, call: Callable[[], object]) -> Timed:
        return Timed(call, self.shape.products(self.batch))

    def _gather(
        self, words: UInt8[Tensor, "n c h w"], weight: UInt8[Tensor, "m c i j"], form: str
    ) -> Int32[Tensor, "n m y x"]:
        padding = (weight.shape[-1] // 2,) * 2
        table = self.tables.entries[form]
        return self.gather.sums(words, weight, table, move=Geometry(padding=padding))

    def _kernel(self, form: str, words: Tensor) -> Timed:
        """Return the look-ups of one table, checked; of its errors, if these are one byte."""
        raw = words.view(torch.uint8).contiguous()
        columns = as_columns(raw)
        weight = self.weight.flatten(1)[:, :, None, None].contiguous()
        choice = torch.zeros(len(weight), dtype=torch.int64)
        look_up = LookUp.of(
            weight,
            self.tables.entries[form][None],
            choice,
            geometry=Geometry(),
            signed=True,
            errors=True,
        )
        wanted = self.gather.sums(
            columns[:CHECKED], weight, look_up.tables[0].contiguous(), move=Geometry()
        )
        assert torch.equal(look_up.sums(columns)[:CHECKED], wanted), (str(self.shape), form)
        return self._timed(lambda: look_up.sums(columns))

    def _layer(self, forms: tuple[str, ...], words: Tensor) -> Timed:
        """Return a whole layer, checked; filters take the tables of `forms` in turn."""
        entries = torch.stack([self.tables.entries[form] for form in forms])
        choice = torch.arange(self.shape.channels) % len(forms)
        products = Products(entries, True, choice, torch.zeros_like(choice).int())
        network = replace(self.network, products={NODE: products})
        return self._run(network, words, entries, choice)

    def _run(
        self,
        network: IntegerNetwork,
        words: Tensor,
        entries: Int32[Tensor, "t 256 256"],
        choice: Tensor | None = None,
    ) -> Timed:
        """Return the run of a network's layer, after comparing its words with plain gathering."""
        constants, grid = network.constants[NODE], network.grids[NODE]
        assert constants.zero_points == (0,)
        assert constants.bias is not None

        def run(given: Tensor) -> Tensor:
            return integer_op(network, self.node, [given], given)

        few = words[:CHECKED].view(torch.uint8).contiguous()
        move = Geometry(padding=(1, 1))
        of_each = [self.gather.sums(few, self.weight, table, move=move) for table in entries]
        taken = torch.zeros(self.shape.channels).long() if choice is None else choice
        sums = torch.stack(of_each)[taken, :, torch.arange(len(taken))].transpose(0, 1)
        sums = sums + constants.bias.int().reshape(-1, 1, 1)
        values = sums.float() * constants.multipliers[0].reshape(-1, 1, 1)
        found = run(words)
        assert torch.equal(found[:CHECKED], requantize_(values, constants).to(grid.dtype)), (
            self.shape
        )
        last = not found.is_contiguous()
        own = words.contiguous(memory_format=torch.channels_last) if last else words
        assert torch.equal(run(own), found)
        return self._timed(lambda: run(own))

    def _exact_table(self) -> Int32[Tensor, "1 256 256"]:
        operands = torch.arange(256).to(torch.int8).int()
        return operands.outer(operands)[None]


def as_columns(words: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n ck h w"]:
    """Return the nine words under each window of 3x3 as channels of their own."""
    n, channels, height, width = words.shape
    padded = functional.pad(words, [1] * 4)
    taps = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(taps, 2).reshape(n, 9 * channels, height, width)
