import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
NET = """
import torch
from torch import nn

def make(n_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, n_classes))

class Strange(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real

def strange():
    return Strange()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checked_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_net", raising=False)
    return tmp_path


def test_a_network_is_described_without_data(call: Call) -> None:
    done = call(
        *("check", "checked_net:make", "--input", "1,8,8", "--classes", "3", "--bits", "4"),
        *("--json", "found.json", "--set", "quantization.activation_bits=6"),
    )
    out, err = done.out, done.err
    assert done.code == 0, err
    assert "checked_net:make: supported; input 1 x 8 x 8, output 3, read by torch.fx" in out
    assert "the inputs are noise" in out
    assert "next: bitproof evaluate --model checked_net:make --bits 4 --data DATA" in out
    assert "weights: none given" in out
    found = json.loads(Path("found.json").read_text())
    assert (found["parameters"], found["layers"][1]["bits"]) == (40 + 435, 4)
    assert found["layers"][1]["output_bits"] == 6


def test_accuracies_are_compared_where_there_are_data_and_weights(call: Call) -> None:
    weights = {f"net.{name}": value for name, value in _state().items()}
    torch.save({"state_dict": weights}, "last.ckpt")
    done = call("check", "checked_net:make", "--data", "digits", "--weights", "last.ckpt")
    out, err = done.out, done.err
    assert done.code == 0, err
    assert "weights: took 'state_dict', dropped prefix 'net.'" in out
    assert "accuracy on 539 test inputs (classification): float" in out
    assert "next: bitproof evaluate --model checked_net:make --weights last.ckpt --data" in out


def _state() -> dict[str, torch.Tensor]:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
    return net.state_dict()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("checked_net:strange", "--input", "1,8,8"), "no rule to quantize the operation 'fft"),
        (("checked_net:make", "--input", "1,a"), "--input: wanted sizes such as 3,32,32, got"),
        (("checked_net:make", "--input", "1,9,9"), "wanted the shape of one input"),
        (("checked_net:make", "--input", "1,8,8", "--data", "digits"), "got both"),
        (("checked_net:mak",), "Did you mean 'make'?"),
        (("resnet200",), "no kind 'resnet200'. Did you mean 'resnet20'?"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(words: tuple[str, ...], message: str, call: Call) -> None:
    done = call("check", *words)
    assert done.code == 2
    (line,) = done.problems
    assert message in line
