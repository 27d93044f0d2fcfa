import torch
from torch import nn

from bitproof.quant import Scheme, quantize
from bitproof.quant.network_facts import LAYERS, layer_rows


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))


def test_a_network_shows_itself_in_five_lines() -> None:
    network = quantize(small_network(), torch.rand(16, 1, 8, 8), Scheme("accurate"))
    lines = repr(network).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("IntegerNetwork: 2 layers with stored words, ")
    assert "input (1, 8, 8)" in lines[0]
    words = 4 * 9 + 4 + 4 * 36 * 3 + 3
    bits = (4 * 9 + 4 * 36 * 3) * 8 + (4 + 3) * 32
    assert f"words: {words:,} in 4 tensors, {bits / 1e3:.1f} kbit" in lines[1]
    assert "2 of 8 bits signed per channel" in lines[1]
    assert "2 of 32 bits" in lines[1]
    assert lines[3] == "  products: exact"
    assert network.fidelity is not None
    assert network.fidelity.line in lines[4]


def test_a_notebook_shows_each_layer() -> None:
    network = quantize(small_network(), torch.rand(16, 1, 8, 8))
    rows = layer_rows(network)
    assert [row[:4] for row in rows] == [
        ["0", "conv", "40", "8"],
        ["3", "linear", f"{4 * 36 * 3 + 3}", "8"],
    ]
    assert {len(row) for row in rows} == {len(LAYERS)}
    shown = network._repr_html_()
    assert shown.count("<tr>") == 4 + 1 + 2
    assert "<th>own error, dB</th>" in shown
