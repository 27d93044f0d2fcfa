"""`bitproof export`: what it writes, what it says, and how it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.quant import Scheme, quantize, save_network

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network for digits."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    images = torch.rand(16, 1, 8, 8, generator=make_generator(0))
    path = tmp_path_factory.mktemp("nets") / "small"
    save_network(quantize(nn.Sequential(*layers), images, Scheme(activation_bits=6)), path)
    return path


def test_it_says_what_was_written_rewritten_and_compared(
    call: Call, stored: Path, tmp_path: Path
) -> None:
    outcome = call("export", stored, "small.onnx", "--verify", 20, "--data", "digits")
    assert outcome.code == 0, outcome.err
    written, *rewritten, compared = outcome.out.splitlines()
    assert written.startswith("small.onnx: ")
    assert f"{(tmp_path / 'small.onnx').stat().st_size:,} bytes, qdq form" in written
    assert any("words below 8 bits" in line for line in rewritten)
    assert "on 20 test images of digits: logits equal in every bit on 20 (100.00 %)" in compared
    session = runtime.InferenceSession(tmp_path / "small.onnx")
    (logits,) = session.run(None, {"input": torch.rand(3, 1, 8, 8).numpy()})
    assert logits.shape == (3, 10)


def test_without_data_it_compares_on_noise(call: Call, stored: Path) -> None:
    outcome = call("export", f"{stored}.json", "o.onnx", "--format", "integer", "--verify", 5)
    assert outcome.code == 0
    assert "on 5 random inputs: logits equal in every bit on 5" in outcome.out
    plain = call("export", stored, "o.onnx")
    assert plain.out.splitlines()[-1] == "not compared with ONNX Runtime: --verify 1000 does that"


@pytest.mark.slow
def test_a_run_with_one_network_is_enough(call: Call, finished: Path) -> None:
    several = call("export", finished, "out.onnx")
    names = sorted(path.stem for path in (finished / "networks").glob("*.json"))
    if len(names) > 1:
        assert several.code == 2
        assert f"wanted one network, got {', '.join(names)}" in several.err
    outcome = call("export", finished / "networks" / names[0], "out.onnx", "--verify", 30)
    assert outcome.code == 0, outcome.err
    assert "logits equal in every bit on 30 (100.00 %)" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "onnx"), "no form 'onnx'"),
        (("--weights", "int4"), "no weights 'int4'. Did you mean 'int8'?"),
        (("--data", "nowhere", "--verify", 3), "nowhere"),
    ],
)
def test_refusals_are_one_line(
    words: tuple[object, ...], said: str, call: Call, stored: Path, tmp_path: Path
) -> None:
    outcome = call("export", stored, "out.onnx", *words)
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert said in outcome.err
    assert not (tmp_path / "out.onnx").exists()


def test_places_that_hold_no_network_are_named(call: Call, tmp_path: Path) -> None:
    empty = call("export", tmp_path, "out.onnx")
    assert empty.code == 2
    assert "wanted a run directory with integer networks" in empty.err
    missing = call("export", "nothing", "out.onnx")
    assert missing.code == 2
    assert "no such file" in missing.err
