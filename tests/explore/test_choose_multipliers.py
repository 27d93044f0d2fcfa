from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.approx import Arithmetic
from bitproof.core.errors import SpecError
from bitproof.data import Splits
from bitproof.explore import ChooseMultipliers, Exploration, Goal, RandomChoices
from bitproof.harden import Candidate, TrainingContext
from bitproof.quant import Scheme
from tests.explore.conftest import MULTIPLIERS

SIGNED = Scheme.model_validate(
    {
        "weight": {"kind": "affine", "symmetric": True, "signed": True},
        "activation_signed": True,
        "activation_symmetric": True,
        "calibration_images": 64,
    }
)


def stage(cost_file: Path, goal: Goal) -> ChooseMultipliers:
    exploration = Exploration(
        costs=str(cost_file),
        profile_images=64,
        images=300,
        goal=goal,
        searches=(RandomChoices(budget=6),),
    )
    return ChooseMultipliers(multipliers=MULTIPLIERS, exploration=exploration)


@pytest.mark.parametrize("means", [False, True])
def test_the_next_stage_has_the_network_that_was_measured(
    cost_file: Path, splits: Splits, means: bool
) -> None:
    """Corrected means go on, and the recorded accuracy is that of the last training images."""
    torch.manual_seed(0)
    images = splits.train.inputs(slice(0, 1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10)).eval()
    candidate = Candidate(model, SIGNED, arithmetic=Arithmetic(correct_means=means))
    goal = Goal(max_drop=None, limits={"power": 0.9})
    done = stage(cost_file, goal).apply(candidate, TrainingContext(train=splits.train))
    assert done.arithmetic.correct_means is means
    network = done.quantize(splits.train)
    assert network.products
    last = splits.train.subset(torch.arange(len(splits.train) - 300, len(splits.train)))
    right = (network(last.inputs()).argmax(1) == last.labels).double().mean()
    assert done.record[-1]["record"]["acc"][1] == pytest.approx(float(right))


def test_goals_that_no_choice_meets_are_an_error(cost_file: Path, splits: Splits) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(splits.train.inputs(slice(0, 1))[0].numel(), 10))
    goal = Goal(max_drop=None, limits={"power": 0.01})
    with pytest.raises(SpecError, match=r"none of the \d choices that random measured meets"):
        stage(cost_file, goal).apply(
            Candidate(model.eval(), SIGNED), TrainingContext(train=splits.train)
        )
