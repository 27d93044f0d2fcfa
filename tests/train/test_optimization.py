from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.train import Batch, Batches, Optimization, fit_, train_
from bitproof.train.optimization import RunningMean

STEPS = Optimization(
    epochs=1, batch_size=44, learning_rate=0.5, momentum=0.0, weight_decay=0.0, sam=0.3
)


@pytest.mark.parametrize("schedule", ["cosine", "multi_step"])
def test_rates_are_those_of_torch(schedule: str) -> None:
    optimizer = SGD([torch.zeros(1)], lr=0.3)
    theirs: LRScheduler = (
        CosineAnnealingLR(optimizer, T_max=50)
        if schedule == "cosine"
        else MultiStepLR(optimizer, milestones=[20, 30, 40], gamma=0.1)
    )
    ours = Optimization.model_validate({"learning_rate": 0.3, "schedule": schedule})
    for step in range(50):
        assert ours.rate(step / 50) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_milestones_rise() -> None:
    with pytest.raises(ValidationError, match="milestones: wanted rising shares"):
        Optimization(milestones=(0.5, 0.5))


def test_one_step_is_that_of_the_papers_algorithm(patterns: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    wanted = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    batch = Batches(patterns, STEPS, seed=0)[0]  # all images: their order does not matter

    def gradient(at: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in at.items()}
        logits = torch.func.functional_call(model, leaves, (batch.inputs,))
        found = torch.autograd.grad(cross_entropy(logits, batch.labels), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    sam_perturbation = gradient(wanted)
    norm = torch.cat([value.flatten() for value in sam_perturbation.values()]).norm()
    above = gradient({name: wanted[name] + 0.3 * sam_perturbation[name] / norm for name in wanted})
    train_(model, patterns, STEPS, generator=make_generator(0))
    for name, weight in model.named_parameters():
        expected = wanted[name] - 0.5 * above[name]
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_norms_learn_once_a_step(patterns: Dataset) -> None:
    nets = [nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, rho in zip(nets, (0.3, 0.0), strict=True):
        steps = STEPS.model_copy(update={"sam": rho, "learning_rate": 1e-9})
        train_(net, patterns, steps, generator=make_generator(0))
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(value, nets[1].state_dict()[name], rtol=1e-4, atol=1e-6)


def test_the_mean_is_that_of_torch(make_net: Callable[[], nn.Module]) -> None:
    model = make_net()
    ours, moving = RunningMean(model, decay=0.5), make_net()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)  # type: ignore[no-untyped-call]
    theirs.update_parameters(model)  # the first update copies
    for step in range(10, 20):  # where our rising decay is past 0.5
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=make_generator(step)))
        ours.follow(model, step)
        theirs.update_parameters(model)
    ours.install_(moving)
    wanted = dict(theirs.module.named_parameters())
    for name, weight in moving.named_parameters():
        torch.testing.assert_close(weight, wanted[name])


def test_training_ends_with_the_mean(patterns: Dataset, make_net: Callable[[], nn.Module]) -> None:
    model, steps = make_net(), Optimization(epochs=2, batch_size=8, ema=0.8)
    seen = []

    def loss(batch: Batch) -> torch.Tensor:
        seen.append([weight.detach().clone() for weight in model.parameters()])
        return batch.error(model(batch.inputs))

    fit_(model, patterns, steps, loss=loss, generator=make_generator(0))
    last = [weight.detach() for weight in model.parameters()]
    # The mean lies between the weights that it saw, and is none of them.
    assert all(not torch.equal(a, b) for a, b in zip(last, seen[-1], strict=True))
    far = [(a - b).norm() for a, b in zip(seen[0], seen[-1], strict=True)]
    near = [(a - b).norm() for a, b in zip(last, seen[-1], strict=True)]
    assert all(a < b for a, b in zip(near, far, strict=True))
