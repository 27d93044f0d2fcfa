"""What a network's files may not claim: each kind of check once, by one changed value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import WeightsError
from bitproof.quant import AffineQuantizer, Scheme, load_network, quantize
from tests.quant.unsealed import save_unsealed

Attrs = dict[str, Any]
Tensors = dict[str, Tensor]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.norm(self.conv((x - 0.5) / 0.25)), 2)
        x = functional.pad(functional.gelu(x), (1, 1))[:, :, 1:]
        x = torch.softmax(x.flatten(2).transpose(1, 2), -1).mean((1,))
        x = torch.cat([x, x[:, [3, 0]]], 1)
        logits: Tensor = self.head(x.clamp(0, 1))
        return logits


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Attrs, Tensors]:
    """Return what is in the files of a network with narrow words."""
    torch.manual_seed(0)
    scheme = Scheme(weight=AffineQuantizer(bits=4, per_channel=True, signed=True))
    network = quantize(Small().eval(), torch.rand(8, 2, 6, 6), scheme)
    path = tmp_path_factory.mktemp("network") / "n"
    save_unsealed(network, path)
    return json.loads(path.with_suffix(".json").read_text()), load(
        path.with_suffix(".safetensors").read_bytes()
    )


@pytest.fixture
def complaint(
    files: tuple[Attrs, Tensors], tmp_path: Path
) -> Callable[[Callable[[Attrs, Tensors], object]], str]:
    """Return what is said of the files after a change of layout and tensors."""

    def of(change: Callable[[Attrs, Tensors], object]) -> str:
        layout, tensors = json.loads(json.dumps(files[0])), dict(files[1])
        change(layout, tensors)
        (tmp_path / "n.json").write_text(json.dumps(layout))
        (tmp_path / "n.safetensors").write_bytes(save(tensors))
        with pytest.raises(WeightsError) as caught:
            load_network(tmp_path / "n")
        said = str(caught.value)
        assert said.startswith(f"{tmp_path / 'n'}: ")
        assert "\n" not in said
        return said.removeprefix(str(tmp_path))[:500]

    return of


def attrs_of(layout: Attrs, op: str) -> Attrs:
    found: Attrs = next(node["attrs"] for node in layout["nodes"] if node["op"] == op)
    return found


@pytest.mark.parametrize(
    ("op", "attr", "value", "said"),
    [
        ("conv", "stride", [0, 1], "wanted 'stride' of 1 to"),
        ("conv", "dilation", [1, -1], "wanted 'dilation' of 1 to"),
        ("conv", "padding", [-1, 0], "wanted 'padding' of 0 to"),
        ("conv", "padding", [10**12, 0], "wanted 'padding' of 0 to"),
        ("conv", "padding", [1 << 20, 1 << 20], "at most 268435456 numbers an image"),
        ("conv", "stride", [1], "as many numbers"),
        ("conv", "groups", 0, "wanted 'groups' of 1 to"),
        ("conv", "groups", 3, "4"),
        ("conv", "groups", 4, "wanted 4 channels, got the shape (1, 2, 6, 6)"),
        ("conv", "dilation", [4, 4], "wanted a map of at least 7, got 6"),
        ("max_pool", "kernel", [2], "as many numbers"),
        ("max_pool", "padding", [2, 2], "at most half the window"),
        ("max_pool", "kernel", [9, 9], "wanted a map of at least 9, got 6"),
        ("input", "std", [0.25, 0.0], "positive, finite"),
        ("input", "mean", [0.5] * 3, "as many numbers in mean and std"),
        ("group_norm", "eps", -1.0, "wanted 'eps' of 0 to"),
        ("group_norm", "eps", float("nan"), "wanted 'eps' of 0 to"),
        ("group_norm", "groups", 3, "wanted channels in 3 equal groups"),
        ("table", "function", "system", "no function 'system'"),
        ("table", "parameters", {"inplace": 1.0}, "wanted parameters approximate of gelu"),
        ("pad", "padding", [1, 1, 1], "two numbers for each"),
        ("pad", "padding", [-2, -2], "wanted to leave something"),
        ("slice", "index", [9], "wanted a place of (1, 4, 3, 5), got 9"),
        ("slice", "index", [[None, None, -1]], "positive steps"),
        ("slice", "index", [[5, 2]], "wanted an output with numbers in it"),
        ("reshape", "shape", [["batch", 4], 11], "wanted a shape for the 40 numbers"),
        ("reshape", "shape", [["batch", 0]], "positive sizes"),
        ("permute", "dims", [0, 1, 1], "axes, each once"),
        ("permute", "dims", [0, 2], "wanted all axes"),
        ("softmax", "dim", 3, "wanted an axis of"),
        ("mean", "dims", [], "axes, each once"),
        ("take", "index", [4], "wanted places below 4, got 4"),
        ("concat", "dim", 5, "wanted an axis of"),
    ],
)
def test_attributes_that_do_not_run_are_told(
    op: str, attr: str, value: Any, said: str, complaint: Any
) -> None:
    found = complaint(lambda layout, _: attrs_of(layout, op).update({attr: value}))
    assert f"({op}): " in found
    assert said in found


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("codes.conv.weight", lambda old: old * 0 + 100, "words of 4 bits, -8 to 7, got 100 to"),
        ("codes.conv.weight", lambda old: old[:, :, 0], "with 4 axes"),
        ("codes.conv.weight", lambda old: old[:3], "a scale for each channel"),
        ("codes.conv.weight", lambda old: old.short(), "wanted words of torch.int8"),
        ("codes.conv.bias", lambda old: old[:1], "a bias for 4 filters"),
        ("codes.head.weight", lambda old: old[:, :5], "wanted rows of 5"),
        ("scale.tensor.conv.weight", lambda old: old * 0, "positive, finite scales"),
        ("scale.grid.conv", lambda old: old * float("nan"), "positive, finite scales"),
        ("scale.grid.conv", lambda old: old.double(), "wanted torch.float32"),
        ("scale.grid.conv", lambda old: old[None], "wanted one shape"),
        ("zero_point.grid.conv", lambda old: old - 2**31 + 1, "zero points within"),
        ("scale.grid.pad", lambda old: old * 2, "of its words"),
    ],
)
def test_tensors_that_do_not_fit_are_told(
    name: str, change: Callable[[Tensor], Tensor], said: str, complaint: Any
) -> None:
    assert said in complaint(
        lambda _, tensors: tensors.update({name: change(tensors[name]).clone().contiguous()})
    )


KINDS = ("scale", "zero_point")
LAYOUTS: dict[str, tuple[Callable[[Attrs, Tensors], object], str]] = {
    "unknown key": (lambda layout, _: layout.update(more=1), "more: "),
    "repeated name": (
        lambda layout, _: layout["nodes"].append({**layout["nodes"][-1]}), "a name of its own",
    ),
    "second input": (
        lambda layout, _: layout["nodes"].append({**layout["nodes"][0], "name": "b"}), "one input",
    ),
    "type of a name": (lambda layout, _: layout["nodes"][1].update(name=3), "nodes.1.name"),
    "rounding": (lambda layout, _: layout.update(rounding="up"), "rounding: "),
    "input shape": (lambda layout, _: layout.update(input_shape=[2, 0, 6]), "input_shape: "),
    "other images": (lambda layout, _: layout.update(input_shape=[2, 9, 9]), "for the"),
    "memory": (lambda layout, _: layout["nodes"][3].update(memory="conv"), "shares the words"),
    "one bit": (lambda layout, _: layout["grids"]["conv"].update(bits=1), "2 to 8 bits"),
    "wide words": (lambda layout, _: layout["grids"]["conv"].update(bits=99), "2 to 8 bits"),
    "axis": (lambda layout, _: layout["tensors"]["conv.weight"].update(axis=7), "each channel"),
    "grid of nothing": (
        lambda layout, tensors: (
            layout["grids"].update(x=layout["grids"]["conv"]),
            tensors.update({f"{k}.grid.x": tensors[f"{k}.grid.conv"] + 0 for k in KINDS}),
        ),
        "there is no such node",
    ),
    "more tensors": (lambda _, tensors: tensors.update(x=torch.ones(1)), "which nothing reads"),
    "fidelity": (lambda layout, _: layout["fidelity"].update(images="x"), "fidelity.images"),
    "huge number": (lambda layout, _: layout.update(input_shape=[10**4000]), "input_shape: "),
}  # fmt: skip


@pytest.mark.parametrize("how", LAYOUTS)
def test_layouts_that_claim_what_cannot_be_are_told(how: str, complaint: Any) -> None:
    change, said = LAYOUTS[how]
    assert said in complaint(change)


def test_a_key_that_is_there_twice_is_told(files: tuple[Attrs, Tensors], tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('{"schema": 1, "schema": 1}')
    (tmp_path / "n.safetensors").write_bytes(save(files[1]))
    with pytest.raises(WeightsError, match="'schema' is there twice"):
        load_network(tmp_path / "n")
    (tmp_path / "n.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="no JSON"):
        load_network(tmp_path / "n")


def test_files_without_an_input_shape_still_load(
    files: tuple[Attrs, Tensors], tmp_path: Path
) -> None:
    layout = {key: value for key, value in files[0].items() if key != "input_shape"}
    (tmp_path / "n.json").write_text(json.dumps(layout))
    (tmp_path / "n.safetensors").write_bytes(save(files[1]))
    network = load_network(tmp_path / "n")
    assert network.input_shape is None
    assert network(torch.rand(2, 2, 6, 6)).shape == (2, 3)
