from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.core.errors import ResumeError, StoppedError
from bitproof.core.rng import make_generator
from bitproof.core.stop_request import StopRequest
from bitproof.data import Dataset
from bitproof.data.augment import Flip
from bitproof.train import Checkpointer, Optimization, train_
from bitproof.train.checkpointing import Snapshot

STEPS = Optimization(epochs=3, batch_size=8, learning_rate=0.05)
KINDS = {
    "sgd": STEPS,
    "nesterov": STEPS.model_copy(update={"nesterov": True}),
    "adamw": STEPS.model_copy(update={"optimizer": "adamw"}),
    "ema": STEPS.model_copy(update={"ema": 0.9}),
    "sam": STEPS.model_copy(update={"sam": 0.05}),
    "smooth": STEPS.model_copy(update={"label_smoothing": 0.1, "max_norm": 0.5}),
    "few": STEPS.model_copy(update={"images_per_epoch": 20, "schedule": "multi_step"}),
}


def train(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization,
    checkpointer: Checkpointer | None = None,
) -> list[float]:
    return train_(
        model,
        data,
        optimization,
        generator=make_generator(7),
        augmentation=[Flip()],
        checkpointer=checkpointer,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("looks", [0, 4, 5, 7])
def test_training_goes_on_exactly_where_it_stopped(
    *,
    kind: str,
    looks: int,
    patterns: Dataset,
    make_net: Callable[[], nn.Module],
    after: Callable[[int], StopRequest],
    tmp_path: Path,
) -> None:
    whole, stopped, resumed = make_net(), make_net(), make_net()
    history = train(whole, patterns, KINDS[kind])
    path = tmp_path / "net.safetensors"
    with pytest.raises(StoppedError):
        train(stopped, patterns, KINDS[kind], Checkpointer(path, stop=after(looks)))
    torch.manual_seed(5)  # whatever another process has drawn
    again = train(resumed, patterns, KINDS[kind], Checkpointer(path))
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_survives_a_stop_after_every_step(
    patterns: Dataset,
    make_net: Callable[[], nn.Module],
    after: Callable[[int], StopRequest],
    tmp_path: Path,
) -> None:
    whole, path, halts = make_net(), tmp_path / "net.safetensors", 0
    history = train(whole, patterns, KINDS["ema"])
    while True:
        model = make_net()
        try:
            again = train(model, patterns, KINDS["ema"], Checkpointer(path, stop=after(0)))
            break
        except StoppedError:
            halts += 1
    assert halts == 3 * 6 - 1
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_snapshots_come_by_themselves(
    patterns: Dataset, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    checkpointer = Checkpointer(path, every_s=0.0)
    train(make_net(), patterns, STEPS, checkpointer)
    assert path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    checkpointer.forget()
    checkpointer.forget()
    assert not path.exists()


def test_tied_weights_are_no_trouble(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    checkpointer = Checkpointer(tmp_path / "net.safetensors")
    state = nn.Sequential(layer, layer).state_dict()
    checkpointer.save(Snapshot(1, state), "tied")
    found = checkpointer.load("tied")
    assert found is not None
    assert all(torch.equal(found.tensors[name], value) for name, value in state.items())


def test_a_snapshot_of_another_training_is_refused(
    patterns: Dataset,
    make_net: Callable[[], nn.Module],
    after: Callable[[int], StopRequest],
    tmp_path: Path,
) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(StoppedError):
        train(make_net(), patterns, STEPS, Checkpointer(path, stop=after(2)))
    for other in (STEPS.model_copy(update={"epochs": 4}), KINDS["adamw"]):
        with pytest.raises(ResumeError, match="belongs to another training"):
            train(make_net(), patterns, other, Checkpointer(path))


@pytest.mark.parametrize("content", [b"", b"torn", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_snapshot_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(ResumeError, match=r"net\.safetensors: damaged, cannot go on; delete it"):
        Checkpointer(path).load("any")


def test_every_truncation_of_a_snapshot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    Checkpointer(path).save(Snapshot(3, {"model.weight": torch.ones(4)}, {"history": [0.1]}), "me")
    whole = path.read_bytes()
    found = Checkpointer(path).load("me")
    assert found is not None
    assert (found.step, found.notes) == (3, {"history": [0.1]})
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ResumeError):
            Checkpointer(path).load("me")
