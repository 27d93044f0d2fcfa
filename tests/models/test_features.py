import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bitproof.core.errors import TraceError
from bitproof.core.rng import make_generator
from bitproof.models import penultimate, with_features

X = torch.rand(3, 4, generator=make_generator(0))


class TwoHeads(nn.Module):
    """Registers its layers in another order than it runs them, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 2)
        self.first = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.idle = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(input=self.norm(self.first(x)))
        return logits


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_the_head_is_the_last_to_run_not_the_last_to_be_listed() -> None:
    assert penultimate(TwoHeads(), X) == "last"


def test_looking_for_the_head_leaves_the_model_as_it_was() -> None:
    model = TwoHeads()
    model.idle.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    penultimate(model, X)
    assert model.training
    assert model.norm.training
    assert not model.idle.training
    assert hooks(model) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_features_carry_gradients() -> None:
    model = TwoHeads().eval()
    logits, features = with_features(model, X, "last")
    assert torch.equal(logits, model(X))
    assert torch.equal(features, model.norm(model.first(X)))
    features.sum().backward()  # type: ignore[no-untyped-call]
    assert model.first.weight.grad is not None
    assert model.last.weight.grad is None


def test_features_are_flattened_to_one_row_per_input() -> None:
    model = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 3), nn.Flatten())
    _, features = with_features(model, X, "1")
    assert torch.equal(features, X)


def test_a_wrapper_may_ask_for_features_inside_a_functional_call() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return with_features(self.net, x, "1")

    wrapper = Wrapper()
    zeros = {name: torch.zeros_like(value) for name, value in wrapper.named_parameters()}
    logits, features = functional_call(wrapper, zeros, X)
    assert not logits.any()
    assert not features.any()


def test_hooks_go_even_when_the_model_fails() -> None:
    model = TwoHeads()
    wrong = torch.zeros(3, 9)
    with pytest.raises(RuntimeError):
        with_features(model, wrong, "last")
    with pytest.raises(RuntimeError):
        penultimate(model, wrong)
    assert hooks(model) == 0
    assert model.training


def test_a_model_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(TraceError, match=r"none ran \(0 in the model\)"):
        penultimate(nn.Sequential(nn.ReLU()), X)


def test_a_linear_layer_that_makes_no_logits_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.MaxPool1d(2))
    with pytest.raises(TraceError, match=r"'0', makes \[3, 6\], but the model returns \[3, 3\]"):
        penultimate(model, X)


def test_a_model_that_returns_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.linear(x), x

    with pytest.raises(TraceError, match="returns tuple"):
        penultimate(Pair(), X)


def test_an_unknown_or_idle_head_is_named() -> None:
    with pytest.raises(TraceError, match=r"no layer 'lats'. Did you mean 'last'\?"):
        with_features(TwoHeads(), X, "lats")
    with pytest.raises(TraceError, match="the layer 'idle' did not run"):
        with_features(TwoHeads(), X, "idle")
