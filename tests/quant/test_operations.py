"""The table of operations: everything that computes a node knows every one of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.quant import quantize, trace
from bitproof.quant.floats import MOVES, PLAIN
from bitproof.quant.operations import (
    CLAMPING_OPS,
    MAC_OPS,
    MOVING_OPS,
    NORM_OPS,
    OPERATIONS,
    SUM_OPS,
    of_sort,
)


def test_every_operation_has_its_arithmetic() -> None:
    assert MOVES.keys() == MOVING_OPS
    assert PLAIN.keys() == SUM_OPS | of_sort("lookup")
    assert (
        MAC_OPS | NORM_OPS | MOVING_OPS | PLAIN.keys() | of_sort("source", "memory")
        == OPERATIONS.keys()
    )
    assert CLAMPING_OPS <= MAC_OPS | SUM_OPS


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3), nn.ELU(alpha=0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.relu(self.conv((x - 0.5) / 0.25)))
        x = nn.functional.max_pool2d(x, 2) + nn.functional.avg_pool2d(x, 2)
        x = torch.cat([x, nn.functional.pad(x, [0, 0, 1, 1])[:, :, 1:-1]], 2).clamp(-1, 1)
        tokens = x.flatten(2).transpose(1, 2)
        scores = torch.softmax((tokens @ tokens.transpose(1, 2)) * 0.5, -1)
        result: torch.Tensor = self.head((scores @ tokens).mean(1))
        return result


def test_traced_nodes_are_as_the_table_says() -> None:
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = trace(Everything().eval(), images)
    assert len({node.op for node in graph.nodes}) > 12
    for node in graph.nodes:
        assert OPERATIONS[node.op].problem(node.attrs, reads=len(node.inputs)) == "", node
    assert quantize(Everything().eval(), images)(images).shape == (3, 3)


MOVES_OF_CONV: dict[str, Any] = {"stride": [1], "padding": [0], "dilation": [1], "groups": 1}


@pytest.mark.parametrize(
    ("op", "change", "reads", "problem"),
    [
        ("conv", lambda attrs: attrs, 2, "wanted 1 inputs, got 2"),
        ("conv", lambda attrs: attrs | {"stride": 1}, 1, "wanted 'stride' of list"),
        ("conv", lambda attrs: attrs | {"stride": [1.5]}, 1, "wanted 'stride' of list"),
        ("conv", lambda attrs: attrs | {"strides": [1]}, 1, "no attribute 'strides'. Did you mean"),
        ("conv", lambda attrs: attrs | {"groups": True}, 1, "wanted 'groups' of int, got True"),
        ("conv", lambda attrs: {**attrs, "clamp": [0.0, None]}, 1, ""),
        ("conv", lambda _: {"groups": 1}, 1, "wanted the attribute 'dilation', got groups"),
        ("concat", lambda _: {"dim": 1}, 0, "wanted at least 1 inputs, got 0"),
    ],
)
def test_nodes_that_are_otherwise_are_told(
    op: str, change: Callable[[dict[str, Any]], dict[str, Any]], reads: int, problem: str
) -> None:
    found = OPERATIONS[op].problem(change(MOVES_OF_CONV), reads=reads)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)
