"""The integer network beside the float network: what is measured, said and kept."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.quant import (
    AffineQuantizer,
    Fidelity,
    Scheme,
    load_network,
    quantize,
    quantize_graph,
    save_network,
    trace,
)
from bitproof.quant.compare import IMAGES
from bitproof.quant.fidelity import MOST_DB
from tests.quant.unsealed import save_unsealed


@pytest.fixture
def images() -> Tensor:
    return torch.rand(160, 2, 6, 6, generator=make_generator(0))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


def fidelity(model: nn.Module, images: Tensor, scheme: Scheme | None = None) -> Fidelity:
    found = quantize(model, images, scheme).fidelity
    assert found is not None
    return found


@pytest.mark.parametrize("bits", [3, 8])
def test_figures_are_those_of_the_two_networks_answers(
    model: nn.Module, images: Tensor, bits: int
) -> None:
    scheme = Scheme(weight=AffineQuantizer(bits=bits))
    network = quantize(model, images, scheme)
    assert network.fidelity is not None
    with torch.no_grad():
        wanted = model(images[:IMAGES]).numpy().astype(np.float64)
    found = network(images[:IMAGES]).numpy().astype(np.float64)
    ratio = 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())
    assert network.fidelity.sqnr_db == pytest.approx(ratio, abs=0.02)
    assert network.fidelity.agreement == (wanted.argmax(1) == found.argmax(1)).mean()
    assert network.fidelity.images == IMAGES


def test_of_single_outputs_signs_have_to_agree(images: Tensor) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(72, 1)
    model = nn.Sequential(nn.Flatten(), layer).eval()
    with torch.no_grad():
        layer.bias.copy_(layer.bias - model(images).mean())
    network = quantize(model, images, Scheme(weight=AffineQuantizer(bits=2)))
    assert network.fidelity is not None
    with torch.no_grad():
        same = (model(images[:IMAGES]) > 0) == (network(images[:IMAGES]) > 0)
    assert 0.5 < network.fidelity.agreement == same.double().mean() < 1.0


def test_the_layer_that_was_cut_off_adds_most_error_and_others_keep_theirs(
    model: nn.Module, images: Tensor
) -> None:
    graph = trace(model, images)
    plain = quantize(model, images).fidelity
    found = quantize(model, images, shrink={"2": 0.2}).fidelity
    assert plain is not None
    assert found is not None
    assert [layer.name for layer in found.layers] == [
        node.name for node in graph.nodes if node.op in {"input", "conv", "linear"}
    ]
    assert found.worst[0].name == "2"
    own = {layer.name: layer.own_sqnr_db for layer in found.layers}
    before = {layer.name: layer.own_sqnr_db for layer in plain.layers}
    assert own["2"] < before["2"] - 6
    assert {name: db for name, db in own.items() if name != "2"} == {
        name: db for name, db in before.items() if name != "2"
    }
    last = found.layers[-1]
    assert last.sqnr_db < last.own_sqnr_db - 6


def test_own_error_of_the_input_is_that_of_rounding(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).eval()
    found = fidelity(model, images).layers[0]
    some = images[:16].double()
    rounded = (some * 255).round() / 255
    ratio = 10 * torch.log10((some**2).sum() / ((some - rounded) ** 2).sum())
    assert found.op == "input"
    assert found.own_sqnr_db == found.sqnr_db == pytest.approx(float(ratio), abs=0.1)


def test_a_network_without_any_error_has_the_most_decibels() -> None:
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0, -127.0, 1.0, 0.0], [0.0, 127.0, 2.0, 3.0]]))
    model = nn.Sequential(nn.Flatten(), layer).eval()
    exact = AffineQuantizer(symmetric=True, signed=True, margin=0.0)
    images = torch.randint(0, 256, (8, 1, 2, 2), generator=make_generator(0)) / 255
    found = fidelity(model, images, Scheme(weight=exact))
    assert found.agreement == 1.0
    assert found.sqnr_db > 100
    assert found.sqnr_db <= MOST_DB


def test_far_from_floats_is_logged_with_layers_and_remedies(
    model: nn.Module, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        quantize(model, images)
        assert not caplog.records
        quantize(model, images, Scheme(weight=AffineQuantizer(bits=2), activation_bits=2))
    (record,) = caplog.records
    text = record.getMessage()
    assert "most error arises in" in text
    assert "per-channel weights" in text
    assert "\n" not in text


def test_fidelity_is_stored_with_the_network_but_no_part_of_its_digest(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    network = quantize(model, images)
    bare = quantize_graph(trace(model, images), images)
    assert bare.fidelity is None
    assert bare.digest() == network.digest()
    save_network(network, tmp_path / "network")
    again = load_network(tmp_path / "network")
    assert again.fidelity == network.fidelity
    assert again.digest() == network.digest()


def test_files_from_before_fidelity_was_kept_still_load(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    save_unsealed(quantize(model, images), tmp_path / "network")
    path = tmp_path / "network.json"
    layout = json.loads(path.read_text())
    del layout["fidelity"]
    path.write_text(json.dumps(layout))
    assert load_network(tmp_path / "network").fidelity is None
