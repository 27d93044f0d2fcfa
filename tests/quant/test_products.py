"""Tables in a network as data: what they hold, how words reach them, where they are kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bitproof.approx import Drum, Exact, LowerOr
from bitproof.core.errors import BitproofError, QuantizationError, WeightsError
from bitproof.core.rng import make_generator
from bitproof.quant import Grid, IntegerNetwork, load_network, quantize, save_network
from bitproof.quant.products import OperandEncoding, Products

IMAGES = torch.rand(12, 2, 5, 5, generator=make_generator(0))
TABLES = torch.stack([Exact().table().products, Drum(width=4).table().products])


def grid(bits: int, point: int, *, signed: bool) -> Grid:
    return Grid(torch.tensor(0.5), torch.tensor(point, dtype=torch.int32), bits, signed)


@pytest.fixture
def network() -> IntegerNetwork:
    """Return a network whose layers share tables."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    network = quantize(model, IMAGES)
    choice, offset = torch.tensor([1, 0, 1]), torch.tensor([3, -4, 500], dtype=torch.int32)
    flat = LowerOr(columns=8).table().products
    products = {
        "0": Products(TABLES, signed=False, choice=choice, offset=offset, names=("a", "b")),
        "3": Products(
            torch.stack([flat, TABLES[1]]),
            signed=False,
            choice=torch.tensor([1, 1, 0, 0]),
            offset=torch.zeros(4).int(),
        ),
    }
    return replace(network, products=products)


# Words at the multiplier.


@pytest.mark.parametrize("at_multiplier", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_words_keep_their_distance_from_the_zero_point(
    bits: int, signed: bool, at_multiplier: bool
) -> None:
    own = grid(bits, 3, signed=signed)
    codes = torch.arange(own.low, own.high + 1).to(own.dtype)
    seen = OperandEncoding.of(own, signed=at_multiplier)
    values = seen.values(seen.patterns(codes))
    assert torch.equal(values - seen.point(own.zero_point), codes.int() - 3)
    low, high = (-128, 127) if at_multiplier else (0, 255)
    assert low <= int(values.min()) <= int(values.max()) <= high
    assert seen.values(seen.patterns(codes)).dtype == torch.int32


@pytest.mark.parametrize("bits", range(2, 9))
def test_words_are_moved_only_where_they_must_be(bits: int) -> None:
    assert OperandEncoding.of(grid(bits, 0, signed=True), signed=True).shift == 0
    assert OperandEncoding.of(grid(bits, 0, signed=False), signed=False).shift == 0
    assert OperandEncoding.of(grid(bits, 0, signed=True), signed=False).shift == 2 ** (bits - 1)
    narrow = OperandEncoding.of(grid(bits, 0, signed=False), signed=True).shift
    assert narrow == (-128 if bits == 8 else 0)


def test_patterns_are_bits_whatever_the_layout_in_memory() -> None:
    codes = torch.arange(-128, 128).to(torch.int8).reshape(4, 4, 4, 4)
    own = grid(8, 0, signed=True)
    for signed, first in ((True, 128), (False, 0)):
        wanted = (torch.arange(256) + first).to(torch.uint8).reshape(4, 4, 4, 4)
        seen = OperandEncoding.of(own, signed=signed)
        assert torch.equal(seen.patterns(codes), wanted)
        assert torch.equal(seen.patterns(codes.permute(0, 2, 3, 1)), wanted.permute(0, 2, 3, 1))
        part = codes[:, ::2, :, 1:3]
        assert torch.equal(seen.patterns(part), wanted[:, ::2, :, 1:3])


def test_wide_words_do_not_reach_a_multiplier() -> None:
    with pytest.raises(QuantizationError, match="wanted words of at most 8 bits, got 32"):
        OperandEncoding.of(grid(32, 0, signed=True), signed=True)


# Single products.


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("signs", [(False, False), (False, True), (True, False), (True, True)])
def test_products_are_found_word_by_word(signs: tuple[bool, bool], signed: bool) -> None:
    entries = torch.randint(-(2**31), 2**31, (2, 256, 256), generator=make_generator(1)).int()
    choice, zeros = torch.tensor([1, 0]), torch.zeros(2, dtype=torch.int32)
    products = Products(entries, signed, choice, zeros)
    grids = grid(8, 3, signed=signs[0]), grid(8, -5, signed=signs[1])
    shifts = [
        (-128 if signed else 128) * (own.signed != signed) for own in grids
    ]  # to the other sort of word
    left, right = torch.meshgrid(
        *(torch.arange(own.low, own.high + 1) for own in grids), indexing="ij"
    )
    exact = products.exact(left, right, grids=grids)
    assert torch.equal(exact, (left + shifts[0]) * (right + shifts[1]))
    for channel in (0, 1):
        found = products.look_up(left, right, channel, grids=grids)
        row, column = (left + shifts[0]) % 256, (right + shifts[1]) % 256
        assert found.dtype == torch.int64
        assert torch.equal(found, entries[1 - channel][row, column].long())


def test_one_table_serves_all_filters() -> None:
    products = Products.of(TABLES[1], signed=False, filters=3, name="drum")
    assert products.names == ("drum",)
    assert torch.equal(products.tables, TABLES[1:])
    assert products.choice.tolist() == products.offset.tolist() == [0, 0, 0]
    assert Products.of(TABLES[1], signed=False, filters=3).names == ()


def test_other_offsets_leave_all_else() -> None:
    products = Products.of(TABLES[0], signed=False, filters=2)
    other = products.with_offset(torch.tensor([5, -6], dtype=torch.int32))
    assert other.offset.tolist() == [5, -6]
    assert products.offset.tolist() == [0, 0]
    assert other.tables is products.tables


@pytest.mark.parametrize(
    ("tables", "choice", "message"),
    [
        (torch.zeros(1, 16, 16).int(), [0], "256 x 256 int32 products each, got .*16"),
        (torch.zeros(1, 256, 256).long(), [0], "256 x 256 int32 products each, got .*int64"),
        (torch.zeros(2, 256, 256).int(), [0, 2], "choice: wanted tables 0 to 1, got 2"),
        (torch.zeros(2, 256, 256).int(), [0, -1], "choice: wanted tables 0 to 1, got -1"),
    ],
)
def test_what_is_no_table_is_refused(tables: Tensor, choice: list[int], message: str) -> None:
    products = Products.of(TABLES[0], signed=False, filters=len(choice))
    # Changed behind its back: in tests, the constructor checks shapes before any message of ours.
    object.__setattr__(products, "tables", tables)
    object.__setattr__(products, "choice", torch.tensor(choice))
    with pytest.raises(QuantizationError, match=message):
        products.__post_init__()


# In a network.


def test_a_network_comes_back_with_its_products(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    loaded = load_network(tmp_path / "net")
    assert loaded.digest() == network.digest()
    assert list(loaded.products) == list(network.products)
    for name, own in network.products.items():
        other = loaded.products[name]
        assert (other.signed, other.names) == (own.signed, own.names)
        for key in ("tables", "choice", "offset"):
            assert torch.equal(getattr(other, key), getattr(own, key))
    assert torch.equal(loaded(IMAGES), network(IMAGES))


def test_equal_tables_are_written_once(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    stored = load_file(tmp_path / "net.safetensors")
    tables = [name for name in stored if name.startswith("table.")]
    assert len(tables) == 3
    assert sum(stored[name].numel() for name in tables) == 3 * 2**16


def test_a_network_without_products_is_written_as_before(
    network: IntegerNetwork, tmp_path: Path
) -> None:
    plain = replace(network, products={})
    save_network(plain, tmp_path / "net")
    assert "products" not in json.loads((tmp_path / "net.json").read_text())
    assert load_network(tmp_path / "net").products == {}
    assert load_network(tmp_path / "net").digest() == plain.digest()


@pytest.mark.parametrize("spoil", ["node", "table", "choice", "far choice", "offset", "no tables"])
def test_products_on_disk_that_do_not_fit_are_refused(
    spoil: str, network: IntegerNetwork, tmp_path: Path
) -> None:
    save_network(network, tmp_path / "net")
    layout = json.loads((tmp_path / "net.json").read_text())
    tensors = load_file(tmp_path / "net.safetensors")
    if spoil == "node":
        layout["products"]["nowhere"] = layout["products"]["0"]
        for kind in ("choice", "offset"):
            tensors[f"{kind}.nowhere"] = tensors[f"{kind}.0"].clone()
    elif spoil == "table":
        del tensors["table.1"]
    elif spoil == "choice":
        tensors["choice.0"] = torch.tensor([0, 1])
    elif spoil == "far choice":
        tensors["choice.0"] = torch.tensor([0, 1, 2])
    elif spoil == "offset":
        del tensors["offset.3"]
    else:
        layout["products"]["0"]["tables"] = []
    (tmp_path / "net.json").write_text(json.dumps(layout))
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(BitproofError) as caught:
        load_network(tmp_path / "net")
    assert isinstance(caught.value, WeightsError | QuantizationError)


def test_products_for_another_number_of_filters_are_refused(
    network: IntegerNetwork, tmp_path: Path
) -> None:
    few = Products.of(TABLES[0], signed=False, filters=2)
    save_network(replace(network, products={"0": few}), tmp_path / "net")
    with pytest.raises(BitproofError, match="filters"):
        load_network(tmp_path / "net")


def test_the_digest_knows_every_part_of_the_products(network: IntegerNetwork) -> None:
    own = network.products["0"]
    changed = own.tables.clone()
    changed[1, 255, 255] += 1
    others = [
        replace(network, products={}),
        replace(network, products={"0": own}),
        *(
            replace(network, products={**network.products, "0": other})
            for other in (
                replace(own, tables=changed),
                replace(own, signed=True),
                replace(own, choice=torch.tensor([0, 0, 1])),
                replace(own, offset=torch.tensor([3, -4, 501], dtype=torch.int32)),
            )
        ),
    ]
    digests = {one.digest() for one in [network, *others]}
    assert len(digests) == len(others) + 1
    copy = replace(own, tables=own.tables.clone(), names=("x", "y"))
    same = replace(network, products={**network.products, "0": copy})
    assert same.digest() == network.digest()


def test_changed_words_keep_the_products(network: IntegerNetwork) -> None:
    codes = network.tensors["0.weight"].codes.flip(0)
    changed = network.with_codes({"0.weight": codes})
    assert changed.products is network.products
    assert not torch.equal(changed(IMAGES), network(IMAGES))
    back = changed.with_codes({"0.weight": network.tensors["0.weight"].codes})
    assert torch.equal(back(IMAGES), network(IMAGES))


def test_a_moved_network_takes_its_products_along(network: IntegerNetwork) -> None:
    same = network.to("cpu")
    assert same.digest() == network.digest()
    assert torch.equal(same(IMAGES), network(IMAGES))


@pytest.mark.gpu
def test_logits_are_the_same_on_a_gpu(network: IntegerNetwork) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = network.to("cuda")
    assert there.digest() == network.digest()
    assert torch.equal(there(IMAGES.cuda()).cpu(), network(IMAGES))
    assert torch.equal(there.differentiable(IMAGES.cuda()).cpu(), network(IMAGES))
