import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import FloatModel, IntegerModel
from bitproof.faults import RandomFlips, Site, corrupt

MANY = RandomFlips(ber=0.05)


def test_predictions_of_the_integer_network_are_its_own(
    integers: IntegerModel, data: Dataset
) -> None:
    assert torch.equal(integers.predict(data.inputs()), integers.network(data.inputs()))


@pytest.mark.parametrize("name", ["floats", "integers"])
def test_gradients_reach_the_inputs(
    name: str, data: Dataset, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    inputs = data.inputs(slice(5)).requires_grad_()
    model.differentiable(inputs).sum().backward()
    assert inputs.grad is not None
    assert float(inputs.grad.abs().sum()) > 0


def test_a_broken_integer_network_is_the_corrupted_one(
    integers: IntegerModel, data: Dataset
) -> None:
    broken = integers.broken(MANY, sites=("weight", "bias"), generator=make_generator(3))
    wanted = corrupt(integers.network, MANY, generator=make_generator(3))
    assert torch.equal(broken(data.inputs()), wanted(data.inputs()))
    assert not torch.equal(broken(data.inputs()), integers.predict(data.inputs()))


@pytest.mark.parametrize(
    "sites", [("weight",), ("bias",), ("activation",), ("weight", "activation")]
)
def test_each_memory_breaks_alone_and_with_others(
    sites: tuple[Site, ...], integers: IntegerModel, data: Dataset
) -> None:
    first, again = (
        integers.broken(MANY, sites=sites, generator=make_generator(3))(data.inputs())
        for _ in range(2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, integers.predict(data.inputs()))


def test_without_sites_nothing_breaks(integers: IntegerModel, data: Dataset) -> None:
    whole = integers.broken(MANY, sites=(), generator=make_generator(3))
    assert torch.equal(whole(data.inputs()), integers.predict(data.inputs()))


def test_activation_faults_do_not_depend_on_the_batch(
    integers: IntegerModel, data: Dataset
) -> None:
    broken = integers.broken(MANY, sites=("activation",), generator=make_generator(3))
    parts = [broken(data.inputs(part)) for part in (slice(0, 7), slice(7, 250))]
    assert torch.equal(torch.cat(parts), broken(data.inputs()))


def test_floats_break_in_their_32_bit_words(
    floats: FloatModel, model: nn.Module, data: Dataset
) -> None:
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    codes = torch.cat([weight.flatten() for weight in before.values()]).view(torch.int32)
    struck = MANY.corrupt(codes, bits=32, generator=make_generator(3)).view(torch.float32)
    sizes = [weight.numel() for weight in before.values()]
    parts = dict(zip(before, torch.split(struck, sizes), strict=True))
    wanted = torch.func.functional_call(
        model,
        {name: parts[name].view(weight.shape) for name, weight in before.items()},
        (data.inputs(),),
    )
    came = floats.broken(MANY, sites=("weight", "bias"), generator=make_generator(3))(data.inputs())
    assert torch.equal(came.nan_to_num(), wanted.detach().nan_to_num())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_an_exponent_bit_is_deadly_in_floats(floats: FloatModel, data: Dataset) -> None:
    broken = floats.broken(RandomFlips(ber=0.2), sites=("weight",), generator=make_generator(3))
    assert not bool(broken(data.inputs()).isfinite().all())


def test_floats_break_in_the_chosen_memory_alone(floats: FloatModel, data: Dataset) -> None:
    everything = RandomFlips(ber=1.0)
    bias = floats.broken(everything, sites=("bias",), generator=make_generator(3))
    none = floats.broken(everything, sites=("activation",), generator=make_generator(3))
    assert not torch.equal(bias(data.inputs()), floats.predict(data.inputs()))
    assert torch.equal(none(data.inputs()), floats.predict(data.inputs()))
