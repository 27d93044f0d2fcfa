import torch
from torch import nn

from bitproof.data import Dataset
from bitproof.harden import Candidate, TrainingContext
from bitproof.quant import AffineQuantizer, Scheme, quantize


def test_quantizing_takes_the_first_images_of_the_calibration_set(
    net: nn.Sequential, data: Dataset
) -> None:
    few, all_ = (Scheme(calibration="min_max", calibration_images=n) for n in (4, 48))
    shrink = {"3": 0.5}
    ours = Candidate(net, few, shrink).quantize(data)
    plain = quantize(net, data.inputs()[:4], few, shrink=shrink)
    whole = quantize(net, data.inputs(), all_, shrink=shrink)
    assert torch.equal(ours(data.inputs()), plain(data.inputs()))
    assert not torch.equal(ours(data.inputs()), whole(data.inputs()))


def test_shrunk_ranges_have_finer_steps_and_clip(net: nn.Sequential, data: Dataset) -> None:
    whole, half = (Candidate(net, shrink={"7": factor}).quantize(data) for factor in (1.0, 0.5))
    steps = [float(network.tensors["7.weight"].grid.scale) for network in (whole, half)]
    assert abs(steps[1] / steps[0] - 0.5) < 1e-6
    spread = [network.tensors["7.weight"].values().abs().max() for network in (whole, half)]
    assert spread[1] < 0.6 * spread[0]


def test_correcting_biases_changes_biases_alone(net: nn.Sequential, data: Dataset) -> None:
    scheme = Scheme(weight=AffineQuantizer(bits=4))
    plain, corrected = (
        Candidate(net, scheme, correct_bias=correct).quantize(data).tensors
        for correct in (False, True)
    )
    changed = {
        name for name in plain if not torch.equal(plain[name].values(), corrected[name].values())
    }
    assert changed == {"0.bias", "3.bias", "7.bias"}


def test_quantizing_leaves_the_model_as_it_is(net: nn.Sequential, data: Dataset) -> None:
    before = {name: value.clone() for name, value in net.train().state_dict().items()}
    Candidate(net, correct_bias=True).quantize(data)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(layer.training for layer in net.modules())


def test_records_are_added_to_a_new_candidate(net: nn.Sequential) -> None:
    first = Candidate(net)
    second = first.with_record("a", loss=[1.0]).with_record("b", top=3)
    assert first.record == ()
    assert second.record == (
        {"kind": "a", "record": {"loss": [1.0]}},
        {"kind": "b", "record": {"top": 3}},
    )
    assert second.model is net


def test_generators_depend_on_seed_and_purpose_alone(data: Dataset) -> None:
    def draw(seed: int, purpose: str) -> float:
        return float(torch.rand((), generator=TrainingContext(data, seed=seed).generator(purpose)))

    assert draw(1, "norms") == draw(1, "norms")
    assert len({draw(1, "norms"), draw(2, "norms"), draw(1, "accept")}) == 3
