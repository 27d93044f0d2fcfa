"""Processes that share batches, with the gloo backend on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.train import SINGLE_PROCESS, ProcessGroup
from bitproof.train.process_group import shared_statistics


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of one."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_alone_nothing_is_asked_of_anybody() -> None:
    value = torch.tensor(2.0)
    SINGLE_PROCESS.add_([value])
    SINGLE_PROCESS.wait()
    assert SINGLE_PROCESS.agree(True)
    assert not SINGLE_PROCESS.agree(False)
    assert value == 2.0
    assert SINGLE_PROCESS.mean(value, weight=0.5) == 2.0


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("rank", [1, 2])
def test_shared_norms_are_those_of_torch(affine: bool, momentum: float | None, rank: int) -> None:
    kinds = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
    ours = kinds[rank](3, affine=affine, momentum=momentum)
    theirs = kinds[rank](3, affine=affine, momentum=momentum)
    generator = make_generator(0)
    for _ in range(3):
        shape = (5, 3) if rank == 1 else (5, 3, 2, 2)
        values = 4 + 3 * torch.randn(shape, generator=generator)
        mine, other = values.clone().requires_grad_(), values.clone().requires_grad_()
        with shared_statistics(ours, ProcessGroup(0, 2)):  # two in name: the sums are over one
            shared = ours(mine)
        plain = theirs(other)
        torch.testing.assert_close(shared, plain, rtol=1e-4, atol=1e-5)
        shared.pow(3).sum().backward()
        plain.pow(3).sum().backward()
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)
    with shared_statistics(ours.eval(), ProcessGroup(0, 2)):
        torch.testing.assert_close(ours(values), theirs.eval()(values), rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(ours)


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    script = Path(__file__).with_name("share_training.py")
    for count in (1, 2):
        out = tmp_path / str(count)
        out.mkdir()
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(
            [*run, f"--nproc-per-node={count}", str(script), str(out)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
    one, two = (json.loads((tmp_path / n / "losses.json").read_text()) for n in "12")
    # Sums in another order, through three epochs of updates in float32.
    assert two == pytest.approx(one, rel=1e-4)
    alone, shared = (
        safetensors.torch.load_file(tmp_path / n / "weights.safetensors") for n in "12"
    )
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-2, atol=1e-3)
