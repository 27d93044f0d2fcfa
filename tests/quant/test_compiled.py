"""The compiled elementwise steps give the words of the plain ones."""

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.kernels.library import find_library, levels, library, why_absent
from bitproof.quant import (
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    accumulators,
    compiled,
    integers,
    quantize,
    run_integers,
)
from bitproof.quant.quantizer import AffineQuantizer
from bitproof.quant.vector_words import encode_vector

pytestmark = pytest.mark.skipif(library() is None, reason=why_absent() or "no library")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return torch.relu(x + self.second(x)).mean((2, 3))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_words_equal_those_without_the_library(
    monkeypatch: pytest.MonkeyPatch, signed: bool, rounding: str, per_channel: bool
) -> None:
    images = torch.rand(9, 3, 12, 12, generator=make_generator(0))
    scheme = Scheme.model_validate(
        {
            "weight": AffineQuantizer(per_channel=per_channel),
            "activation_signed": signed,
            "activation_rounding": rounding,
        }
    )
    network = quantize(Residual(), images, scheme)
    calls = counted(monkeypatch)
    fast = run_integers(network, images, native=False)
    assert calls == ["sums", "sums", "sum"]
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert torch.equal(fast, run_integers(network, images, native=False))
    assert calls[3:] == ["sums", "sums"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that calls of the compiled steps are written to, while it lasts."""
    calls: list[str] = []
    of_sums, of_sum = compiled.words_of_sums, compiled.describe_sum

    def sums(*words: object) -> torch.Tensor | None:
        calls.append("sums")
        return of_sums(*words)  # type: ignore[arg-type]

    def both(*words: object) -> object:
        calls.append("sum")
        return of_sum(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(accumulators, "words_of_sums", sums)
    monkeypatch.setattr(compiled, "describe_sum", both)
    return calls


def test_rows_with_a_multiplier_each_are_left_to_torch() -> None:
    images = torch.rand(8, 9, 9, 9, generator=make_generator(0))
    model = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
    network = quantize(model, images, Scheme(weight=AffineQuantizer(per_channel=True)))
    assert network.constants["0"].multipliers[0].shape == (9,)
    assert images.numel() > compiled.SMALLEST
    flat = quantize(model, images.reshape(-1, 9), Scheme(weight=AffineQuantizer(per_channel=True)))
    assert torch.equal(network(images).reshape(-1, 9), flat(images.reshape(-1, 9)))


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("source", [torch.uint8, torch.int8])
@pytest.mark.parametrize("target", [torch.uint8, torch.int8, torch.int16])
def test_tables_of_words_are_read_by_their_bits(
    bits: int, source: torch.dtype, target: torch.dtype
) -> None:
    low = -(2 ** (bits - 1)) if source == torch.int8 else 0
    generator = make_generator(0)
    least, most = torch.iinfo(target).min, torch.iinfo(target).max
    table = torch.randint(least, most + 1, (2**bits,), generator=generator).int()
    codes = torch.randint(low, low + 2**bits, (3, 8, 20, 20), generator=generator).to(source)
    for words in (codes, codes.contiguous(memory_format=torch.channels_last)):
        found = compiled.words_of_table(words, table, low, target)
        assert found is not None
        assert found.stride() == words.stride()
        assert torch.equal(found, table.to(target)[words.long() - low])
    assert compiled.words_of_table(codes[..., ::2], table, low, target) is None


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("bits", [8, 5, 16])
@pytest.mark.parametrize("op", ["layer_norm", "softmax", "masked"])
@pytest.mark.parametrize("level", levels())
def test_rows_equal_those_of_torch(
    level: str, op: str, bits: int, rounding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, signed = make_generator(0, bits), bits != 5
    point = torch.tensor(0 if bits == 16 else 3, dtype=torch.int32)
    read = Grid(torch.tensor(0.04 if bits < 16 else 1e-4), point, bits, signed)
    masked = {"masked": True} if op == "masked" else {}
    norm = op == "layer_norm"
    attrs = {"axes": 1, "eps": 1e-5} if norm else {"dim": -1, **masked}
    nodes = (Node("x", "input"), Node("y", "layer_norm" if norm else "softmax", ("x",), attrs))
    tensors = {}
    if norm and bits != 5:  # without parameters, too
        for kind in ("weight", "bias"):
            tensors[f"y.{kind}"] = encode_vector(torch.randn(70, generator=generator))
    codes = torch.randint(read.low, read.high + 1, (3, 40, 70), generator=generator)
    codes[0, 0] = read.high  # all alike
    codes = codes.to(read.dtype)
    for wide in (8, 16):
        step = (0.02 if norm else 1 / 255) / (1 if wide == 8 else 200)
        written = Grid(torch.tensor(step), torch.tensor(0, dtype=torch.int32), wide, wide == 16)
        network = IntegerNetwork(nodes, tensors, {"x": read, "y": written}, rounding)
        monkeypatch.setattr(compiled, "library", lambda: find_library(level)[0])
        found = integers.integer_op(network, nodes[1], [codes], codes)
        monkeypatch.setattr(compiled, "library", lambda: None)
        wanted = integers.integer_op(network, nodes[1], [codes], codes)
        assert len(set(wanted.flatten().tolist())) > 5
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
