from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from bitproof.kernels.gather import gathered_sums
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.gpu_tables import Rows, available
from bitproof.quant import Scheme, quantize
from bitproof.quant.products import Products

CPU = torch.device("cpu")
BYTE, PRODUCT, WIDE = (-128, 128), (-16384, 16385), (-(2**31), 2**31)
# Of Triton: its choice of a default, and its interpreter's use of numpy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim"),
]
interpreted = pytest.mark.skipif(not available(CPU), reason="no Triton, or no TRITON_INTERPRET=1")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@dataclass(frozen=True)
class Case:
    words: tuple[int, int, int, int]
    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    tables: int = 1
    entries: tuple[int, int] = PRODUCT

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.stride, (0, 0), self.dilation, self.groups)


CASES = {
    "one product": Case((1, 1, 1, 1), 1),
    "no images": Case((0, 3, 5, 5), 4, (3, 3)),
    "3x3": Case((2, 3, 7, 9), 4, (3, 3)),
    "unsigned products": Case((2, 3, 7, 9), 4, (3, 3), entries=(0, 65026)),
    "entries of a byte": Case((2, 3, 7, 9), 5, (3, 3), entries=BYTE),
    "wide entries": Case((2, 3, 7, 9), 5, (3, 3), entries=WIDE),
    "a table for each filter": Case((2, 3, 5, 6), 5, (3, 3), tables=5),
    "many tables of wide entries": Case((2, 3, 5, 6), 17, (2, 3), tables=9, entries=WIDE),
    "stride": Case((2, 3, 10, 23), 3, (3, 2), stride=(3, 1)),
    "stride over 1x1": Case((3, 5, 9, 9), 3, stride=(2, 2)),
    "dilation": Case((2, 2, 11, 13), 3, (3, 3), stride=(1, 2), dilation=(2, 3)),
    "groups": Case((2, 6, 6, 6), 9, (3, 3), groups=3, tables=2),
    "groups of more filters than a tile": Case((2, 4, 4, 4), 18, (2, 2), groups=2, tables=3),
    "depthwise": Case((2, 7, 6, 5), 7, (3, 3), groups=7, tables=2, stride=(2, 2)),
    "linear": Case((130, 33, 1, 1), 10, tables=2),
    "one pixel more than a tile": Case((1, 2, 3, 43), 9),
}


@dataclass(frozen=True)
class Operands:
    words: Tensor
    weight: Tensor
    tables: Tensor
    choice: Tensor
    start: Tensor

    def to(self, device: str) -> "Operands":
        return Operands(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def draw(case: Case) -> Operands:
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    channels = case.words[1] // case.groups
    return Operands(
        words=integers(0, 256, *case.words).byte(),
        weight=integers(0, 256, case.filters, channels, *case.kernel).byte(),
        tables=integers(*case.entries, case.tables, 256, 256).int(),
        choice=integers(0, case.tables, case.filters),
        start=integers(-(2**40), 2**40, case.filters),
    )


def sums_of(case: Case, operands: Operands) -> Tensor:
    own = operands
    rows = Rows.of(own.weight, own.tables, own.choice, geometry=case.geometry)
    return rows.sums(own.words, own.start)


def sums_by_torch(case: Case, operands: Operands) -> Tensor:
    own = operands
    chosen, geometry = (own.tables, own.choice), case.geometry
    if not len(own.words):
        return sums_by_torch(case, replace(own, words=own.words.new_zeros(1, *case.words[1:])))[:0]
    sums = gathered_sums(own.words, own.weight, *chosen, geometry=geometry)
    return sums + own.start.to(torch.int32).reshape(-1, 1, 1)


@interpreted
@pytest.mark.parametrize("name", CASES)
def test_interpreted_sums_equal_those_of_torch(name: str) -> None:
    case = CASES[name]
    operands = draw(case)
    assert torch.equal(sums_of(case, operands), sums_by_torch(case, operands))


@interpreted
def test_words_may_lie_anyhow_in_memory() -> None:
    case = CASES["groups"]
    operands = draw(case)
    last = operands.words.to(memory_format=torch.channels_last)
    inner = torch.nn.functional.pad(operands.words, [1, 1, 1, 1])[:, :, 1:-1, 1:-1]
    for words in (last, inner):
        assert not words.is_contiguous()
        found = sums_of(case, replace(operands, words=words))
        assert torch.equal(found, sums_by_torch(case, operands))


@interpreted
def test_rows_serve_maps_of_any_size() -> None:
    case = CASES["3x3"]
    own = draw(case)
    rows = Rows.of(own.weight, own.tables, own.choice, geometry=case.geometry)
    for words in (own.words, own.words[:1, :, 1:, 2:], own.words):
        wanted = sums_by_torch(case, replace(own, words=words))
        assert torch.equal(rows.sums(words, own.start), wanted)


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ((0, 255), torch.uint8),
        ((-3, 253), torch.uint16),
        ((-30000, 35535), torch.uint16),
        ((0, 65536), torch.int32),
        ((-(2**31), 2**31 - 1), torch.int32),
    ],
)
def test_rows_hold_every_entry_in_few_bytes(entries: tuple[int, int], kind: torch.dtype) -> None:
    case = Case((1, 1, 1, 1), 512, tables=2, entries=(entries[0], entries[1] + 1))
    tables = draw(case).tables
    tables[1, :2, 7] = torch.tensor(entries)
    weight = torch.arange(256).byte().repeat(2).reshape(-1, 1, 1, 1)
    choice = torch.arange(2).repeat_interleave(256)
    rows = Rows.of(weight, tables, choice, geometry=Geometry())
    assert rows.entries.dtype == kind
    assert rows.entries.is_contiguous()
    read = rows.entries.flatten()[rows.named[0, :, None] + torch.arange(256)].long()
    found = (read + rows.begin[:, None]).to(torch.int32)
    assert torch.equal(found.reshape(2, 256, 256), tables.transpose(1, 2))


def test_devices_without_triton_are_refused() -> None:
    assert not available(torch.device("meta"))


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("name", CASES)
def test_sums_on_cuda_equal_those_of_torch(name: str) -> None:
    if not available(torch.device("cuda")):
        pytest.skip("no Triton")
    case = CASES[name]
    operands = draw(case)
    found = sums_of(case, operands.to("cuda"))
    assert found.is_cuda
    assert torch.equal(found.cpu(), sums_by_torch(case, operands))


@pytest.mark.gpu
@on_gpu
def test_large_layers_on_cuda_equal_those_of_torch() -> None:
    if not available(torch.device("cuda")):
        pytest.skip("no Triton")
    for entries in (BYTE, PRODUCT, WIDE):
        case = Case((9, 64, 34, 34), 72, (3, 3), tables=3, entries=entries)
        operands = draw(case).to("cuda")
        assert torch.equal(sums_of(case, operands), sums_by_torch(case, operands))


class Mixed(nn.Module):
    """Every sort of node that takes its products from tables."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.stem(x)))
        x = (x + torch.relu(self.deep(x))).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(x[:, 0])
        return logits


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("entries", [BYTE, PRODUCT, WIDE])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("tables", [1, 8])
def test_networks_on_cuda_give_the_logits_of_the_cpu(
    entries: tuple[int, int], signed: bool, tables: int
) -> None:
    torch.manual_seed(0)
    model, images = Mixed().eval(), torch.rand(12, 2, 6, 6)
    network = quantize(model, images, Scheme())
    values = torch.arange(256).to(torch.int8).int() if signed else torch.arange(256).int()
    drawn = draw(Case((1, 1, 1, 1), 1, tables=tables, entries=entries)).tables
    content = values.outer(values) + drawn if entries == BYTE else drawn
    products = {}
    for node in network.nodes:
        if node.op in {"conv", "linear", "affine", "matmul"}:
            weight = network.tensors.get(f"{node.name}.weight")
            filters = 1 if weight is None else len(weight.codes)
            choice = torch.arange(filters) % tables
            products[node.name] = Products(content, signed, choice, torch.zeros(filters).int())
    network = replace(network, products=products)
    assert {node.op for node in network.nodes} >= {"conv", "linear", "affine", "matmul"}
    assert torch.equal(network.to("cuda")(images.cuda()).cpu(), network(images))
