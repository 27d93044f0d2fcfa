"""The bits that may break: how many there are, and where each lies."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults.execute import check_faults
from bitproof.faults.space import FaultSpace, Shapes, Stratum
from bitproof.faults.table import ACTIONS, TAP_SITES, WORD_SITES, FaultTable
from bitproof.injection.golden import Golden
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize

Place = tuple[str, str, int, int, int]
"""Site, layer, element, tap, bit."""


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.inner, self.out = nn.Linear(3, 2, bias=False), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.conv(x))
        return self.out(torch.sigmoid(self.inner(x)).flatten(1))


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    torch.manual_seed(0)
    images = torch.rand(4, 2, 3, 3, generator=make_generator(0))
    scheme = Scheme(weight=AffineQuantizer(bits=5), bias=None, activation_bits=6)
    return quantize(Small(), images, scheme)


@pytest.fixture(scope="module")
def shapes(network: IntegerNetwork) -> Shapes:
    return Golden.run(network, torch.zeros(1, 2, 3, 3)).shapes


def places(space: FaultSpace, network: IntegerNetwork, shapes: Shapes) -> list[Place]:
    """Return every place, in the order of their numbers."""
    found: list[Place] = []
    for stratum in space.strata(network, shapes):
        columns = stratum.locate(np.arange(stratum.size))
        for element, tap, bit in zip(*(column.tolist() for column in columns), strict=True):
            found.append((stratum.site, stratum.layer, element, tap, bit))
    return found


def sizes(space: FaultSpace, network: IntegerNetwork, shapes: Shapes) -> dict[str, int]:
    return {one.layer: one.size for one in space.strata(network, shapes)}


@pytest.mark.parametrize(
    ("site", "wanted"),
    [
        ("weight", {"conv": 4 * 9 * 5, "inner": 6 * 5, "out": 72 * 5}),
        ("bias", {"conv": 4 * 32, "out": 3 * 32}),
        ("activation", {"input": 18 * 6, "conv": 36 * 6, "inner": 24 * 6, "sigmoid": 24 * 6}),
        ("output", {"conv": 36 * 6, "inner": 24 * 6}),
        ("input", {"conv": 18 * 6, "inner": 36 * 6, "out": 24 * 6}),
        ("operand", {"conv": 36 * 9 * 6, "inner": 24 * 3 * 6, "out": 3 * 24 * 6}),
        ("weight_operand", {"conv": 36 * 9 * 5, "inner": 24 * 3 * 5, "out": 3 * 24 * 5}),
        ("accumulator", {"conv": 36 * 32, "inner": 24 * 32, "out": 3 * 32}),
    ],
)
def test_sizes_are_words_times_products_times_bits(
    site: str, wanted: dict[str, int], network: IntegerNetwork, shapes: Shapes
) -> None:
    assert sizes(FaultSpace.model_validate({"sites": [site]}), network, shapes) == wanted


def test_strata_come_by_site_and_execution(network: IntegerNetwork, shapes: Shapes) -> None:
    space = FaultSpace(sites=("bias", "weight", "bias"))
    found = [(one.site, one.layer) for one in space.strata(network, shapes)]
    assert found == [
        ("bias", "conv"),
        ("bias", "out"),
        ("weight", "conv"),
        ("weight", "inner"),
        ("weight", "out"),
    ]


def test_numbers_and_places_are_one_to_one(network: IntegerNetwork, shapes: Shapes) -> None:
    for stratum in FaultSpace(sites=WORD_SITES).strata(network, shapes):
        rows = np.stack(stratum.locate(np.arange(stratum.size)), 1)
        assert len(np.unique(rows, axis=0)) == stratum.size == len(rows)
        element, tap, bit = rows.T
        assert set(element) == set(range(stratum.words))
        assert set(bit) == set(range(stratum.width))
        if stratum.site in TAP_SITES:
            assert set(tap) == set(range(stratum.taps))
        else:
            assert set(tap) == {-1}
            assert stratum.taps == 1
        assert bit.tolist()[: stratum.width] == list(range(stratum.width))


def test_every_place_can_break_and_none_beyond(network: IntegerNetwork, shapes: Shapes) -> None:
    everything = places(FaultSpace(sites=WORD_SITES), network, shapes)
    layers = [node.name for node in network.nodes]
    rows = [(n, *place, ACTIONS[n % 3]) for n, place in enumerate(everything[::3])]
    check_faults(network, FaultTable.from_rows(rows, layers=layers), shapes)


def test_one_bit_of_a_stratum_is_a_part_of_it(network: IntegerNetwork, shapes: Shapes) -> None:
    for stratum in FaultSpace(sites=WORD_SITES, bits=(1, 3, 4)).strata(network, shapes):
        whole = np.stack(stratum.locate(np.arange(stratum.size)), 1)
        for bit in stratum.bits:
            part = replace(stratum, bits=(bit,))
            rows = np.stack(part.locate(np.arange(part.size)), 1)
            assert np.array_equal(rows, whole[whole[:, 2] == bit])


# Filters, each against the same condition on all places.

FILTERS = [
    ({"layers": ("conv",)}, lambda p, _: p[1] == "conv"),
    ({"layers": ("?o*", "out")}, lambda p, _: p[1] in {"conv", "out"}),
    ({"operations": ("linear",)}, lambda p, _: p[1] in {"inner", "out"}),
    ({"operations": ("table", "input")}, lambda p, _: p[1] in {"sigmoid", "input"}),
    ({"bits": (0, 5, 31, 77)}, lambda p, _: p[4] in {0, 5, 31}),
    ({"elements": (2, 0, 10, 999)}, lambda p, _: p[2] in {0, 2, 10}),
    ({"elements": (3,), "bits": (2,)}, lambda p, _: (p[2], p[4]) == (3, 2)),
    ({"channels": (1, 2, 99)}, lambda p, shape: channel_of(p, shape) in {1, 2}),
    (
        {"channels": (1,), "elements": (1, 9, 10, 25)},
        lambda p, shape: channel_of(p, shape) == 1 and p[2] in {1, 9, 10, 25},
    ),
]  # fmt: skip


def channel_of(place: Place, shape: tuple[int, ...]) -> int:
    """Return the output channel of a place; rows of a linear layer have theirs last."""
    site, layer, element, *_ = place
    last = layer in {"inner", "out"} and site not in {"weight", "bias"}
    return int(np.unravel_index(element, shape)[-1 if last else 0])


@pytest.mark.parametrize(("fields", "keep"), FILTERS)
def test_filters_keep_what_fits(
    fields: dict[str, object], keep: object, network: IntegerNetwork, shapes: Shapes
) -> None:
    assert callable(keep)
    words = {f"{key}.{kind}": tuple(network.tensors[f"{key}.{kind}"].codes.shape)
             for key in ("conv", "inner", "out") for kind in ("weight", "bias")
             if f"{key}.{kind}" in network.tensors}  # fmt: skip
    reads = {node.name: node.inputs[0] for node in network.nodes if node.inputs}

    def shape_of(place: Place) -> tuple[int, ...]:
        site, layer, *_ = place
        if site in {"weight", "bias"}:
            return words[f"{layer}.{site}"]
        return shapes[reads[layer] if site == "input" else layer]

    everything = places(FaultSpace(sites=WORD_SITES), network, shapes)
    space = FaultSpace.model_validate({"sites": WORD_SITES, **fields})
    wanted = [place for place in everything if keep(place, shape_of(place))]
    assert places(space, network, shapes) == wanted
    assert wanted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": ("con",)}, "layers: no layer fits 'con'. Did you mean 'conv'?"),
        ({"layers": ("conv", "x*")}, r"layers: no layer fits 'x\*'"),
        (
            {"operations": ("convv",)},
            "operations: the network has no 'convv'. Did you mean 'conv'?",
        ),
        ({"bits": (40,)}, "wanted bits to break, got none for sites weight"),
        ({"bits": ()}, "wanted bits to break"),
        ({"elements": (10_000,)}, "wanted bits to break"),
        ({"channels": ()}, "wanted bits to break"),
        ({"layers": ("sigmoid",)}, "layers with weights: conv, inner, out"),
        ({"sites": ()}, "wanted bits to break"),
    ],
)
def test_nothing_to_break_is_refused(
    fields: dict[str, object], message: str, network: IntegerNetwork, shapes: Shapes
) -> None:
    with pytest.raises(SpecError, match=message):
        FaultSpace.model_validate(fields).strata(network, shapes)


@pytest.mark.parametrize(
    "fields", [{"sites": ["wieght"]}, {"bits": [-1]}, {"elements": [1.5]}, {"layer": ["conv"]}]
)
def test_specs_of_the_wrong_kind_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        FaultSpace.model_validate(fields)


def test_channels_of_folded_convolutions_are_still_channels() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 3, 2), nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Any:
            return self.out(self.conv(x.reshape(-1, 1, 3, 3)).reshape(-1, 24))

    torch.manual_seed(0)
    net = quantize(Folded(), torch.rand(4, 2, 3, 3))
    shapes = Golden.run(net, torch.zeros(1, 2, 3, 3)).shapes
    assert shapes["conv"] == (2, 3, 2, 2)
    (stratum,) = FaultSpace(sites=("output",), channels=(1,)).strata(net, shapes)
    assert stratum.words == prod(shapes["conv"])
    assert stratum.elements is not None
    assert stratum.elements.tolist() == [4, 5, 6, 7, 16, 17, 18, 19]


def test_a_stratum_without_bits_is_empty() -> None:
    assert Stratum("weight", "a", words=5, width=8, bits=()).size == 0
