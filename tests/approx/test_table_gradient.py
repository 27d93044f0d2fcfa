import itertools

import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import (
    Drum,
    Exact,
    LowerOr,
    Mitchell,
    Multiplier,
    Perforated,
    ProductTable,
    Truncated,
)
from bitproof.approx.deploy import with_multipliers
from bitproof.approx.table_gradient import (
    Multiplied,
    gradient_tables,
    gradients_of,
    low_rank,
    through_table,
)
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.quant import IntegerNetwork, Node, quantize
from bitproof.quant.integers import integer_op


def slope(row: list[int], place: int, half_width: int) -> float:
    """Return the smoothed central difference, from the definition."""

    def smooth(at: int) -> tuple[float, float]:
        window = range(max(0, at - half_width), min(255, at + half_width) + 1)
        return sum(row[i] for i in window) / len(window), sum(window) / len(window)

    (up, right), (down, left) = smooth(min(place + 1, 255)), smooth(max(place - 1, 0))
    return (up - down) / (right - left)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("half_width", [0, 1, 5, 64, 127])
def test_an_exact_product_changes_by_its_other_operand(half_width: int, signed: bool) -> None:
    table = Exact(signed=signed).table()
    first, second = gradient_tables(table, half_width=half_width)
    operands = table.operands.float()
    assert torch.equal(first, operands.expand(256, 256))
    assert torch.equal(second, operands[:, None].expand(256, 256))


@pytest.mark.parametrize("half_width", [0, 2, 9])
def test_slopes_are_those_of_the_definition(half_width: int) -> None:
    table = Truncated(columns=7, signed=True).table()
    first, second = gradient_tables(table, half_width=half_width)
    values = list(range(-128, 128))
    for other in (-128, -77, -1, 0, 3, 127):
        down = [int(table.products[value % 256, other % 256]) for value in values]
        across = [int(table.products[other % 256, value % 256]) for value in values]
        for place, value in enumerate(values):
            wanted = [slope(row, place, half_width) for row in (down, across)]
            found = [
                float(first[value % 256, other % 256]),
                float(second[other % 256, value % 256]),
            ]
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_exchanged_operands_exchange_gradients(signed: bool) -> None:
    table = Perforated(rows=3, signed=signed).table()
    first, second = gradient_tables(table, half_width=3)
    other = gradient_tables(table.swapped(), half_width=3)
    assert torch.equal(first, other[1].T)
    assert torch.equal(second, other[0].T)


def test_the_table_stays_as_it_was() -> None:
    table = Truncated(columns=7, signed=True).table()
    kept = table.products.clone()
    gradient_tables(table, half_width=3)
    assert torch.equal(table.products, kept)


@pytest.mark.parametrize("half_width", [-1, 128])
def test_neighbours_must_be_there(half_width: int) -> None:
    with pytest.raises(SpecError, match="half_width: wanted 0 to 127"):
        gradient_tables(Exact().table(), half_width=half_width)


@pytest.mark.parametrize("rank", [0, 257])
def test_rank_must_be_possible(rank: int) -> None:
    with pytest.raises(SpecError, match="rank: wanted 1 to 256"):
        low_rank(torch.ones(256, 256), rank=rank)


def test_full_rank_leaves_nothing_out() -> None:
    gradient, _ = gradient_tables(Mitchell().table(), half_width=2)
    found = low_rank(gradient, rank=256)
    assert torch.allclose(found.first.T @ found.second, gradient, atol=1e-3)


def share_left_out(gradient: Tensor, *, rank: int) -> float:
    found = low_rank(gradient, rank=rank)
    rest = gradient - found.first.T @ found.second
    return float(rest.double().square().sum() / gradient.double().square().sum())


def test_no_products_are_nearer() -> None:
    # Eckart and Young: what is left out are the smaller singular values.
    gradient, _ = gradient_tables(Drum(width=3).table(), half_width=2)
    energy = torch.linalg.svdvals(gradient.double()).square()
    wanted = float(energy[3:].sum() / energy.sum())
    assert share_left_out(gradient, rank=3) == pytest.approx(wanted, rel=1e-3)


def test_nothing_at_all_stays_nothing() -> None:
    found = low_rank(torch.zeros(256, 256), rank=1)
    assert not (found.first.T @ found.second).any()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "multiplier",
    [Exact(), Truncated(columns=6), Drum(width=4), Mitchell(), LowerOr(columns=6)],
)
def test_four_terms_hold_nearly_all_of_a_gradient(multiplier: Multiplier, signed: bool) -> None:
    table = multiplier.model_copy(update={"signed": signed}).table()
    for gradient in gradient_tables(table, half_width=8):
        assert share_left_out(gradient, rank=4) < 0.05


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(2, 3, 2), (2, 4, 3)),
    "padded": (nn.Conv2d(2, 3, 3, padding=(1, 2)), (2, 4, 3)),
    "strided": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=1), (2, 4, 4)),
    "dilated": (nn.Conv2d(2, 2, 2, dilation=2, padding=2), (2, 3, 3)),
    "grouped": (nn.Conv2d(4, 4, 2, groups=2, padding=1), (4, 3, 2)),
    "depthwise": (nn.Conv2d(3, 3, 3, groups=3, stride=2), (3, 3, 3)),
    "one axis": (nn.Conv1d(2, 3, 3, padding=1), (2, 5)),
    "linear": (nn.Linear(5, 3), (2, 5)),
}


def layer_of(
    module: nn.Module, shape: tuple[int, ...], multipliers: list[Multiplier]
) -> tuple[IntegerNetwork, Node, Tensor]:
    """Return a network of one layer, with multipliers for its filters in turn, and its words."""
    images = torch.rand(2, *shape, generator=make_generator(0, "images"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        nn.init.normal_(module.get_parameter("weight"), 0.3)
        network = quantize(nn.Sequential(module), images)
    node = network.nodes[-1]
    filters = len(network.tensors[f"{node.name}.weight"].codes)
    chosen = list(itertools.islice(itertools.cycle(multipliers), filters))
    network = with_multipliers(network, {node.name: chosen})
    codes = integer_op(network, network.nodes[0], [], images)
    return network, node, codes


def gradients_through(
    network: IntegerNetwork, node: Node, codes: Tensor, gradient: Tensor, *, rank: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients that `through_table` has for input and weight."""
    products, weight = network.products[node.name], network.tensors[f"{node.name}.weight"]
    grid = network.grids[node.inputs[0]]
    found = gradients_of(products, half_width=4, rank=rank)
    seen = Multiplied.of(codes, weight, grid=grid, products=products, gradients=found)
    x = grid.center(codes).float().requires_grad_()
    centered = weight.centered().float().requires_grad_()
    sums = network.accumulator(node).sums([codes])
    passed = through_table(node, (x, centered), sums, seen=seen)
    assert torch.equal(passed, sums)
    passed.backward(gradient)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert centered.grad is not None
    return x.grad, centered.grad


def gradients_by_looping(
    network: IntegerNetwork, node: Node, codes: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sums of gradient times slope, product by product; layers as 2-d convolutions."""
    products, weight = network.products[node.name], network.tensors[f"{node.name}.weight"]
    seen = Multiplied.of(
        codes, weight, grid=network.grids[node.inputs[0]], products=products, gradients=[]
    )
    tables = [
        gradient_tables(ProductTable(table, products.signed), half_width=4)
        for table in products.tables
    ]
    a, w, g = seen.codes, seen.weight, gradient
    attrs = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **node.attrs}
    if node.op == "linear":
        a, w, g = a.reshape(-1, a.shape[-1], 1, 1), w[..., None, None], g.reshape(-1, len(w), 1, 1)
    if node.op == "conv" and w.ndim == 3:
        a, w, g = a.unsqueeze(2), w.unsqueeze(2), g.unsqueeze(2)
        attrs |= {"stride": (1, *attrs["stride"]), "padding": (0, *attrs["padding"])}
        attrs["dilation"] = (1, *attrs["dilation"])
    moves = [
        (attrs[name], attrs[name]) if isinstance(attrs[name], int) else attrs[name]
        for name in ("stride", "padding", "dilation")
    ]
    of_a, of_w = torch.zeros(a.shape, dtype=torch.float64), torch.zeros(w.shape).double()
    per_group = len(w) // attrs["groups"]
    for n, m, *out in itertools.product(*map(range, g.shape)):
        first, second = tables[int(products.choice[m])]
        for d, *tap in itertools.product(*map(range, w.shape[1:])):
            c = m // per_group * w.shape[1] + d
            at = [out[i] * moves[0][i] + tap[i] * moves[2][i] - moves[1][i] for i in range(2)]
            inside = all(0 <= at[i] < a.shape[2 + i] for i in range(2))
            word = int(a[n, c, at[0], at[1]]) if inside else seen.point % 256
            other = int(w[m, d, tap[0], tap[1]])
            size = float(g[n, m, out[0], out[1]])
            of_w[m, d, tap[0], tap[1]] += size * (float(second[word, other]) - seen.point)
            if inside:
                change = float(first[word, other]) - float(seen.weight_point[m])
                of_a[n, c, at[0], at[1]] += size * change
    return of_a.reshape(codes.shape), of_w.reshape(weight.codes.shape)


@pytest.mark.parametrize(
    "multipliers",
    [[Truncated(columns=7, signed=True)], [Drum(width=3)], [Mitchell(), Truncated(columns=6)]],
    ids=["signed", "unsigned", "two tables"],
)
@pytest.mark.parametrize("shape", LAYERS)
def test_backward_pass_is_a_loop_over_products(shape: str, multipliers: list[Multiplier]) -> None:
    network, node, codes = layer_of(*LAYERS[shape], multipliers)
    gradient = torch.randn(
        network.accumulator(node).sums([codes]).shape, generator=make_generator(2)
    )
    found = gradients_through(network, node, codes, gradient, rank=256)
    wanted = gradients_by_looping(network, node, codes, gradient)
    for ours, loops in zip(found, wanted, strict=True):
        assert torch.allclose(ours.double(), loops, rtol=0, atol=1e-3 * float(loops.abs().max()))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", LAYERS)
def test_exact_products_have_the_gradient_of_the_exact_layer(shape: str, signed: bool) -> None:
    network, node, codes = layer_of(*LAYERS[shape], [Exact(signed=signed)])
    sums = network.accumulator(node).sums([codes])
    gradient = torch.randn(sums.shape, generator=make_generator(2))
    found = gradients_through(network, node, codes, gradient, rank=1)
    weight = network.tensors[f"{node.name}.weight"].centered().float().requires_grad_()
    x = network.grids[node.inputs[0]].center(codes).float().requires_grad_()
    if node.op == "linear":
        plain = nn.functional.linear(x, weight)
    else:
        convolve = nn.functional.conv2d if weight.ndim == 4 else nn.functional.conv1d
        attrs = (node.attrs[name] for name in ("stride", "padding", "dilation", "groups"))
        plain = convolve(x, weight, None, *attrs)
    plain.backward(gradient)  # type: ignore[no-untyped-call]
    for ours, theirs in zip(found, (x.grad, weight.grad), strict=True):
        assert theirs is not None
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()) + 1e-3)
