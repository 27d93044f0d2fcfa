import importlib.util
import sys

import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks.ascent import LinfPGD
from bitproof.attacks.autoattack import AutoAttack
from bitproof.attacks.base import InputAttack
from bitproof.core.errors import AdapterError, InputShapeError
from bitproof.core.rng import make_generator

installed = pytest.mark.skipif(
    importlib.util.find_spec("pyautoattack") is None,
    reason="optional: pip install 'bitproof[autoattack]'",
)


def attack_some(trained: "Trained", attack: InputAttack, n: int = 40) -> Tensor:
    return attack.run(
        trained.net, trained.inputs[:n], trained.labels[:n], generator=make_generator(0)
    )


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(AdapterError, match=r"pip install 'bitproof\[autoattack\]'"):
        AutoAttack(epsilon=0.1).run(
            nn.Flatten(),
            torch.rand(2, 1, 2, 2),
            torch.tensor([0, 1]),
            generator=make_generator(0),
        )


def test_the_norm_decides_the_ball() -> None:
    assert AutoAttack(epsilon=0.1).ball == "Linf"
    assert AutoAttack(epsilon=0.1, norm="L2").ball == "L2"


@installed
@pytest.mark.slow
def test_autoattack_is_at_least_as_strong_as_pgd(trained: "Trained") -> None:
    epsilon, labels = trained.epsilon, trained.labels[:40]
    right = [
        int((trained.net(attack_some(trained, attack)).argmax(dim=1) == labels).sum())
        for attack in (AutoAttack(epsilon=epsilon), LinfPGD(epsilon=epsilon))
    ]
    assert right[0] <= right[1]


@installed
@pytest.mark.slow
@pytest.mark.parametrize("version", ["standard", "rand"])
@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.12), ("L2", 1.5)])
def test_every_version_breaks_a_net_far_past_its_tipping_point(
    trained: "Trained",
    norm: str,
    epsilon: float,
    version: str,
) -> None:
    attack = AutoAttack.from_table({"epsilon": epsilon, "norm": norm, "version": version})
    assert isinstance(attack, AutoAttack)
    found = attack_some(trained, attack, n=10)
    assert (trained.net(found).argmax(dim=1) != trained.labels[:10]).all()


@installed
@pytest.mark.slow
def test_parameters_receive_no_gradient_even_from_its_plain_backward(
    trained: "Trained",
) -> None:
    attack_some(trained, AutoAttack(epsilon=0.06), n=4)
    assert all(p.grad is None and p.requires_grad for p in trained.net.parameters())


@installed
def test_global_generators_and_the_trace_function_are_restored(trained: "Trained") -> None:
    def tracer(*_: object) -> None:
        return None

    state, before = torch.random.get_rng_state(), sys.gettrace()
    sys.settrace(tracer)
    try:
        attack_some(trained, AutoAttack(epsilon=0.2), n=2)
        kept = sys.gettrace()
    finally:
        sys.settrace(before)
    assert kept is tracer
    assert torch.equal(torch.random.get_rng_state(), state)


@installed
def test_a_model_with_too_few_classes_is_refused() -> None:
    with pytest.raises(InputShapeError, match="at least 4 classes, got 3"):
        AutoAttack(epsilon=0.1).run(
            nn.Sequential(nn.Flatten(), nn.Linear(4, 3)),
            torch.rand(2, 1, 2, 2),
            torch.tensor([0, 1]),
            generator=make_generator(0),
        )


@installed
def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(InputShapeError, match="wanted images"):
        AutoAttack(epsilon=0.1).run(
            nn.Linear(4, 4), torch.rand(2, 4), torch.tensor([0, 1]), generator=make_generator(0)
        )
