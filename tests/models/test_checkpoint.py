import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitproof.core.errors import BitproofError, UnsafeFileError, WeightsError
from bitproof.core.rng import make_generator
from bitproof.models import DigitsCNN, Normalize, load_weights, save_weights
from bitproof.models.checkpoint import READERS


def digits(seed: int = 0) -> nn.Module:
    spec = DigitsCNN(width=4)
    return spec.build(in_channels=1, image_size=8, n_classes=10, generator=make_generator(seed))


def write(path: Path, state: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        path.write_bytes(safetensors.torch.save(state))
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, path)
    return path


def problem(model: nn.Module, path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        load_weights(model, path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def assert_same(model: nn.Module, state: dict[str, Tensor]) -> None:
    mine = model.state_dict()
    assert mine.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(mine[name], value), name


@pytest.mark.parametrize("suffix", READERS)
def test_every_format_returns_every_bit_and_leaves_the_model_alone(
    suffix: str, tmp_path: Path
) -> None:
    state = digits(1).state_dict()
    model = digits(0)
    loaded = load_weights(model, write(tmp_path / f"w{suffix}", state))
    assert_same(loaded, state)
    assert_same(model, digits(0).state_dict())


def test_a_training_checkpoint_with_the_prefix_of_data_parallel_loads(tmp_path: Path) -> None:
    state = digits(1).state_dict()
    path = tmp_path / "w.th"
    prefixed = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": prefixed, "best_prec1": 91.7}, path)
    assert_same(load_weights(digits(), path), state)


def test_a_model_whose_own_names_start_with_module_loads(tmp_path: Path) -> None:
    wrapper = nn.ModuleDict({"module": nn.Linear(2, 3)})
    path = write(tmp_path / "w.npz", wrapper.state_dict())
    assert_same(load_weights(wrapper, path), wrapper.state_dict())


def test_buffers_of_the_wrapper_may_be_absent_and_load_when_present(tmp_path: Path) -> None:
    model = nn.Sequential(Normalize([0.1], [0.2]), nn.BatchNorm2d(1))
    state = nn.Sequential(Normalize([0.3], [0.4]), nn.BatchNorm2d(1)).state_dict()
    state["1.num_batches_tracked"] += 5
    assert_same(load_weights(model, write(tmp_path / "all.npz", state)), state)
    kept = {"0.mean", "0.std", "1.num_batches_tracked"}
    fewer = {name: value for name, value in state.items() if name not in kept}
    loaded = load_weights(model, write(tmp_path / "some.npz", fewer)).state_dict()
    assert all(torch.equal(loaded[name], model.state_dict()[name]) for name in kept)


def test_a_running_mean_may_not_be_absent(tmp_path: Path) -> None:
    state = digits().state_dict()
    del state["bn1.running_mean"]
    text = problem(digits(), write(tmp_path / "w.npz", state))
    assert text.endswith("do not fit the model: missing 'bn1.running_mean'")


def test_every_key_that_does_not_fit_is_named_with_its_neighbour(tmp_path: Path) -> None:
    state = digits().state_dict()
    state["linear.wieght"] = state.pop("linear.weight")
    state["extra"] = torch.zeros(1)
    del state["block.conv2.weight"]
    state["linear.bias"] = torch.zeros(3)
    state["bn1.bias"] = torch.zeros(4, dtype=torch.int32)
    text = problem(digits(), write(tmp_path / "w.safetensors", state))
    for part in (
        "missing 'block.conv2.weight';",
        "missing 'linear.weight' (the file has 'linear.wieght')",
        "unexpected 'linear.wieght' (the model has 'linear.weight')",
        "unexpected 'extra'",
        "'linear.bias': wanted [10], got [3]",
        "'bn1.bias': wanted torch.float32, got torch.int32",
    ):
        assert part in text
    assert text.count(";") == 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float, tmp_path: Path) -> None:
    state = digits().state_dict()
    state["conv1.weight"][0, 0, :2, 0] = bad
    text = problem(digits(), write(tmp_path / "w.npz", state))
    assert text.endswith("'conv1.weight': 2 of 36 values are not finite")


def test_doubles_load_as_the_models_dtype_unless_they_overflow(tmp_path: Path) -> None:
    state = {name: value.double() for name, value in nn.Linear(2, 2).state_dict().items()}
    loaded = load_weights(nn.Linear(2, 2), write(tmp_path / "w.npz", state))
    assert_same(loaded, {name: value.float() for name, value in state.items()})
    state["bias"][0] = 1e300
    text = problem(nn.Linear(2, 2), write(tmp_path / "w.npz", state))
    assert text.endswith("'bias': 1 of 2 values are not finite")


def test_the_byte_order_and_memory_layout_of_an_npz_do_not_matter(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    weight = np.asfortranarray(state["weight"].numpy())
    np.savez(tmp_path / "w.npz", weight=weight, bias=state["bias"].numpy().astype(">f4"))
    assert_same(load_weights(nn.Linear(3, 2), tmp_path / "w.npz"), state)


def test_shared_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias = nn.Parameter(torch.arange(6.0)[::2])
    path = tmp_path / "deep" / "w.safetensors"
    save_weights(model, path)
    assert_same(
        load_weights(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), path), model.state_dict()
    )
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


def test_saving_twice_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(digits(), tmp_path / f"{name}.safetensors")
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_name_that_ends_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"wanted a name that ends in \.safetensors, got '\.pt'"):
        save_weights(digits(), tmp_path / "w.pt")
    (tmp_path / "w.h5").write_bytes(b"")
    assert "wanted one of .safetensors, .npz," in problem(digits(), tmp_path / "w.h5")


def test_a_file_that_is_not_there_or_not_a_file_is_told(tmp_path: Path) -> None:
    assert problem(digits(), tmp_path / "w.npz").endswith("no such file")
    (tmp_path / "folder.npz").mkdir()
    assert "cannot be read as .npz" in problem(digits(), tmp_path / "folder.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "wanted a dict of tensors, got list"),
        ({"weight": torch.zeros(1), "epoch": 3}, "got 'epoch' (int)"),
        ({"state_dict": {3: torch.zeros(1)}}, "got '3' (Tensor)"),
    ],
)
def test_a_pickle_of_something_else_is_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert message in problem(nn.Linear(1, 1), tmp_path / "w.pt")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_never_runs(zipped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    torch.save({"weight": Bomb(mark)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BitproofError) as error:
        load_weights(nn.Linear(1, 1), tmp_path / "w.pt")
    assert not mark.exists()
    assert "\n" not in str(error.value)


def test_a_whole_pickled_model_is_refused_with_its_classes_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(UnsafeFileError, match=r"Linear.*save model.state_dict\(\) instead"):
        load_weights(nn.Linear(1, 1), tmp_path / "w.pt")


def test_code_in_an_npz_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    np.savez(tmp_path / "w.npz", weight=np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="'weight' holds Python objects"):
        load_weights(nn.Linear(1, 1), tmp_path / "w.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Bomb(mark)))
    assert "cannot be read as .npz" in problem(nn.Linear(1, 1), tmp_path / "bare.npz")
    assert not mark.exists()


def test_a_single_array_or_a_text_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "got a single array (.npy)" in problem(nn.Linear(1, 1), tmp_path / "single.npz")
    np.savez(tmp_path / "text.npz", weight=np.array(["a"]))
    assert "cannot be read as .npz" in problem(nn.Linear(1, 1), tmp_path / "text.npz")


def contents() -> dict[str, bytes]:
    """Return one valid file per format, as bytes; two kinds of pickle."""
    state = nn.Linear(3, 2).state_dict()
    files = {".safetensors": io.BytesIO(safetensors.torch.save(state))}
    for suffix in (".npz", ".pt", ".th"):
        files[suffix] = io.BytesIO()
    np.savez_compressed(files[".npz"], **{name: value.numpy() for name, value in state.items()})
    torch.save(state, files[".pt"])
    torch.save(state, files[".th"], _use_new_zipfile_serialization=False)
    return {suffix: file.getvalue() for suffix, file in files.items()}


CONTENTS = contents()


@pytest.mark.parametrize("suffix", CONTENTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_give_one_line_and_no_other_error(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(CONTENTS[suffix])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.just(len(content)) | st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / f"w{suffix}"
    path.write_bytes(content)
    try:
        loaded = load_weights(nn.Linear(3, 2), path)
    except BitproofError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(value.isfinite().all() for value in loaded.state_dict().values())


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_truncation_is_refused(suffix: str, tmp_path: Path) -> None:
    content = CONTENTS[suffix]
    path = tmp_path / f"w{suffix}"
    for kept in range(0, len(content), max(len(content) // 40, 1)):
        path.write_bytes(content[:kept])
        problem(nn.Linear(3, 2), path)
