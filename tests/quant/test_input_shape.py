"""A network knows the shape of the images that it was calibrated with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.core.errors import InputShapeError
from bitproof.quant import load_network, quantize, save_network
from tests.quant.unsealed import save_unsealed

IMAGES = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
MODEL = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
NETWORK = quantize(MODEL, IMAGES)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 6, 5), (2, 36)])
def test_images_of_another_shape_are_refused_also_where_they_would_run(
    shape: tuple[int, ...],
) -> None:
    for run in (NETWORK, NETWORK.differentiable):
        with pytest.raises(InputShapeError, match=r"wanted shape \(n, 1, 6, 6\), as at calibr"):
            run(torch.rand(shape))


def test_the_shape_survives_its_file_and_changes_of_the_network(tmp_path: Path) -> None:
    save_network(NETWORK, tmp_path / "net")
    assert load_network(tmp_path / "net").input_shape == (1, 6, 6)
    assert NETWORK.with_codes({}).input_shape == (1, 6, 6)
    assert NETWORK.to("cpu").input_shape == (1, 6, 6)


def test_files_from_before_shapes_were_kept_load_and_take_what_runs(tmp_path: Path) -> None:
    save_unsealed(NETWORK, tmp_path / "net")
    file = tmp_path / "net.json"
    layout = json.loads(file.read_text())
    del layout["input_shape"]
    file.write_text(json.dumps(layout))
    old = load_network(tmp_path / "net")
    assert old.input_shape is None
    assert old(torch.rand(2, 1, 8, 8)).shape == (2, 2)
    assert torch.equal(old(IMAGES), NETWORK(IMAGES))


def test_the_shape_is_no_part_of_the_digest() -> None:
    assert replace(NETWORK, input_shape=None).digest() == NETWORK.digest()
