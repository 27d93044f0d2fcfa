from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.train import Batch, Optimization, fit_
from bitproof.train.running_mean import RunningMean


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
