import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from bitproof.train import Optimization


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
