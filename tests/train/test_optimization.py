import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import SpecError
from bitproof.train import Optimization


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([1.0, -2.0]))


def test_cosine_is_torch_s() -> None:
    steps = 40
    optimizer = torch.optim.SGD([weight()], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    ours = Optimization(learning_rate=0.1, schedule="cosine")
    for step in range(steps):
        assert ours.rate(step / steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("done", "rate"), [(0.0, 0.01), (0.125, 0.055), (0.25, 0.1), (0.625, 0.05), (1.0, 0.0)]
)
def test_one_cycle_goes_through_known_points(done: float, rate: float) -> None:
    schedule = Optimization(learning_rate=0.1, schedule="one_cycle", warmup=0.25)
    assert schedule.rate(done) == pytest.approx(rate, abs=1e-12)


def test_constant_stays() -> None:
    schedule = Optimization(learning_rate=0.1, schedule="constant")
    assert {schedule.rate(step / 7) for step in range(7)} == {0.1}


@settings(max_examples=60, deadline=None)
@given(
    done=st.floats(0, 1, exclude_max=True),
    warmup=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "one_cycle", "constant"]),
)
def test_rate_stays_between_zero_and_its_peak(done: float, warmup: float, schedule: str) -> None:
    table = {"learning_rate": 0.3, "schedule": schedule, "warmup": warmup}
    assert 0 <= Optimization.model_validate(table).rate(done) <= 0.3 * (1 + 1e-12)


def test_sgd_takes_the_parameters_that_were_given() -> None:
    wanted = {"lr": 0.5, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}
    optimizer = Optimization(
        learning_rate=0.5, momentum=0.8, nesterov=True, weight_decay=0.01
    ).build([weight()])
    assert isinstance(optimizer, torch.optim.SGD)
    assert {name: optimizer.param_groups[0][name] for name in wanted} == wanted


def test_adamw_takes_the_parameters_that_were_given() -> None:
    optimizer = Optimization(optimizer="adamw", learning_rate=0.5, weight_decay=0.01).build(
        [weight()]
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(SpecError, match="nesterov: wanted a momentum above 0"):
        Optimization.from_table({"nesterov": True, "momentum": 0.0})
