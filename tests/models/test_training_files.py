"""Weights as trainings and hubs leave them."""

import argparse
import collections
import datetime
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bitproof.core.errors import UnsafeFileError, WeightsError
from bitproof.core.progress import Progress
from bitproof.models import load_weights
from bitproof.models.checkpoint import take_weights, weight_files
from bitproof.models.pickle_check import check_pickle


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        collections.OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), fc=nn.Linear(4, 3))
    )


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def assert_same(model: nn.Module, state: dict[str, Tensor]) -> None:
    mine = model.state_dict()
    assert mine.keys() == state.keys()
    assert all(torch.equal(mine[name], value) for name, value in state.items())


def optimizer_state(model: nn.Module) -> dict[str, Any]:
    adam = torch.optim.Adam(model.parameters())
    sum(weight.sum() for weight in model.parameters()).backward()  # type: ignore[union-attr]
    adam.step()
    return adam.state_dict()


def lightning(model: nn.Module) -> dict[str, Any]:
    """Return what Lightning's trainer writes."""
    return {
        "epoch": 9,
        "global_step": 3510,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": collections.OrderedDict(prefixed("model.", model.state_dict())),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 10}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'acc'}": {
            "best_model_score": torch.tensor(0.9), "best_k_models": {"a.ckpt": torch.tensor(0.9)},
            "dirpath": "checkpoints"}},
        "optimizer_states": [optimizer_state(net(7))],
        "lr_schedulers": [{"last_epoch": 9, "_last_lr": [np.float64(0.1)]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": np.float64(1e-3), "args": argparse.Namespace(depth=3),
                             "key": b"\x00\xff bytes", "mean": np.arange(3.0)},
    }  # fmt: skip


def test_a_lightning_checkpoint_loads_and_says_what_was_taken(tmp_path: Path) -> None:
    model = net(1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(lightning(model), tmp_path / "last.ckpt")
    loaded, said = take_weights(net(), tmp_path / "last.ckpt")
    assert_same(loaded, state)
    assert said == "took 'state_dict', dropped prefix 'model.'"


def test_who_watches_is_told(tmp_path: Path) -> None:
    class Said(Progress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    torch.save({"net": net(1).state_dict()}, tmp_path / "w.pt")
    torch.save(net(1).state_dict(), tmp_path / "plain.pt")
    said = Said()
    load_weights(net(), tmp_path / "w.pt", progress=said)
    load_weights(net(), tmp_path / "plain.pt", progress=said)
    assert said.lines == ["weights: took 'net'"]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "my_weights"])
@pytest.mark.parametrize("name", ["w.pth.tar", "w.bin"])
def test_the_usual_dicts_are_unwrapped(key: str, name: str, tmp_path: Path) -> None:
    state = net(1).state_dict()
    torch.save({"epoch": 3, key: state, "optimizer": optimizer_state(net())}, tmp_path / name)
    loaded, said = take_weights(net(), tmp_path / name)
    assert_same(loaded, state)
    assert said == f"took '{key}'"


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "net.", "_orig_mod.", "backbone.", "module.model._orig_mod.", "a.b.c."],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_all_names_begin_with_is_dropped(prefix: str, suffix: str, tmp_path: Path) -> None:
    state = net(1).state_dict()
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(prefixed(prefix, state), path)
    else:
        safetensors.torch.save_file(prefixed(prefix, state), path)
    loaded, said = take_weights(net(), str(path))
    assert_same(loaded, state)
    assert said == f"dropped prefix '{prefix}'"


def test_compiled_parts_of_a_model_load(tmp_path: Path) -> None:
    state = net(1).state_dict()
    torch.save(
        {name.replace("fc.", "fc._orig_mod."): v for name, v in state.items()}, tmp_path / "w.pt"
    )
    assert_same(load_weights(net(), tmp_path / "w.pt"), state)


def test_what_torch_itself_averages_loads(tmp_path: Path) -> None:
    state = net(1).state_dict()
    torch.save(AveragedModel(net(1)).state_dict(), tmp_path / "w.pt")
    loaded, said = take_weights(net(), tmp_path / "w.pt")
    assert_same(loaded, state)
    assert said == "dropped prefix 'module.', left out 1 ('n_averaged')"


@pytest.mark.parametrize("ema", ["ema_state_dict", "model_ema", "state_dict_ema"])
def test_of_weights_and_their_average_one_has_to_be_chosen(ema: str, tmp_path: Path) -> None:
    last, average = net(1).state_dict(), net(2).state_dict()
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": prefixed("module.", last), ema: average}, path)
    with pytest.raises(WeightsError) as error:
        load_weights(net(), path)
    assert f"say which you mean: {path}:state_dict or {path}:{ema}" in str(error.value)
    assert_same(load_weights(net(), f"{path}:state_dict"), last)
    assert_same(load_weights(net(), f"{path}:{ema}"), average)
    with pytest.raises(WeightsError, match=f"under 'emma', there are none; .*'{ema}'"):
        load_weights(net(), f"{path}:emma")


def test_a_small_part_of_a_large_file_is_not_taken_unasked(tmp_path: Path) -> None:
    path, student = tmp_path / "w.pt", net(1).state_dict()
    teacher = nn.Linear(100, 100).state_dict()
    torch.save(prefixed("student.", student) | prefixed("teacher.", teacher), path)
    with pytest.raises(WeightsError, match=r"say which you mean: .*w\.pt:student$"):
        load_weights(net(), path)
    assert_same(load_weights(net(), f"{path}:student"), student)


def test_two_halves_that_fit_are_ambiguous(tmp_path: Path) -> None:
    torch.save(
        prefixed("online.", net(1).state_dict()) | prefixed("target.", net(2).state_dict()),
        tmp_path / "w.pt",
    )
    with pytest.raises(WeightsError, match=r"w\.pt:online or .*w\.pt:target$"):
        load_weights(net(), tmp_path / "w.pt")
    assert_same(load_weights(net(), tmp_path / "w.pt:target"), net(2).state_dict())


def test_what_does_not_fit_is_told_about_the_likeliest_dict(tmp_path: Path) -> None:
    state = prefixed("model.", net().state_dict())
    del state["model.fc.bias"]
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.ckpt")
    with pytest.raises(WeightsError) as error:
        load_weights(net(), tmp_path / "w.ckpt")
    assert str(error.value).endswith(
        "the weights (took 'state_dict', dropped prefix 'model.') do not fit the model: "
        "missing 'fc.bias'"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_converted_and_it_is_said(dtype: torch.dtype, tmp_path: Path) -> None:
    state = net(1).to(dtype).state_dict()
    torch.save(state, tmp_path / "w.bin")
    loaded, said = take_weights(net(), tmp_path / "w.bin")
    assert said == f"converted 8 tensors from {str(dtype)[6:]} to float32"
    assert torch.equal(loaded.state_dict()["fc.weight"], state["fc.weight"].float())


def test_parts_of_hugging_face_are_put_together(tmp_path: Path) -> None:
    state = net(1).state_dict()
    names = {name: f"model-0000{n % 2 + 1}-of-00002.safetensors" for n, name in enumerate(state)}
    for part in set(names.values()):
        mine = {name: value for name, value in state.items() if names[name] == part}
        safetensors.torch.save_file(mine, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert_same(load_weights(net(), index), state)
    assert [file.name for file in weight_files(index)] == [index.name, *sorted({*names.values()})]
    index.write_text(json.dumps({"weight_map": {"a": "not there.bin"}}))
    with pytest.raises(WeightsError, match=r"not there\.bin: no such file, model\.safetensors"):
        load_weights(net(), index)
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="wanted names of files beside it"):
        load_weights(net(), index)


class Config:
    """A class of the user's."""


def test_unknown_objects_are_named_with_the_cure(tmp_path: Path) -> None:
    torch.save({"state_dict": net().state_dict(), "config": Config()}, tmp_path / "w.ckpt")
    with pytest.raises(
        UnsafeFileError, match=r"test_training_files.Config\).*torch.save\(model.st"
    ):
        load_weights(net(), tmp_path / "w.ckpt")


def test_stand_ins_are_made_of_nothing_that_the_file_says(tmp_path: Path) -> None:
    content = {
        "state_dict": net(1).state_dict(),
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "counts": collections.defaultdict(int, a=3),
        "path": Path("a"),
    }
    torch.save(content, tmp_path / "w.pt")
    assert_same(load_weights(net(), tmp_path / "w.pt"), net(1).state_dict())


def test_bytes_are_allowed_once_and_not_multiplied() -> None:
    def check(content: bytes) -> None:
        check_pickle(io.BytesIO(content), Path("w.pt"))

    check(pickle.dumps([bytes(range(256)) * 40, b"b", b"b"], protocol=2))
    word = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000
    latin = b"X\x06\x00\x00\x00latin1"
    start = b"\x80\x02]" + word + b"q\x00" + latin + b"q\x01c_codecs\nencode\nq\x02"
    with pytest.raises(UnsafeFileError, match="again and again"):
        check(start + b"h\x02h\x00h\x01\x86R" * 100 + b".")
    for other in (b"h\x00h\x00\x86R", b"\x85", b"h\x00h\x01\x86\x81"):
        with pytest.raises(UnsafeFileError, match="more than a text"):
            check(start + other + b".")
