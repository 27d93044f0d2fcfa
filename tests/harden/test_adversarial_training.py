"""Adversarial training: losses and steps as written down, against slow loops of our own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from bitproof.attacks import LinfPGD
from bitproof.core.errors import ModelError, SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.harden import (
    HARDEN,
    PGDAT,
    TRADES,
    Candidate,
    FastAT,
    FreeAT,
    HardeningStage,
    TrainingContext,
    Vanilla,
)
from bitproof.harden.fast_at import OverfittingGuard
from bitproof.harden.training_stage import ActivationFlips, Ranges
from bitproof.train import Batches, Optimization
from bitproof.train.batches import Batch

LONG = Optimization(epochs=20, batch_size=8, learning_rate=0.05, weight_decay=0.0)
OPTIMIZATION = Optimization(epochs=2, batch_size=8, learning_rate=0.5, weight_decay=0.0)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def data(n: int = 20) -> Dataset:
    labels = torch.arange(n) % 3
    patterns = torch.rand(3, 1, 3, 4, generator=make_generator(0, "patterns"))
    noise = 0.1 * torch.randn(n, 1, 3, 4, generator=make_generator(0, "noise"))
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 3)


def batch() -> Batch:
    return Batches(data(), OPTIMIZATION, seed=3)[0]


def trained(stage: HardeningStage) -> nn.Module:
    return stage.apply(Candidate(network()), TrainingContext(data(), seed=5)).model


def test_vanilla_is_the_cross_entropy() -> None:
    model, one = network(), batch()
    wanted = cross_entropy(model(one.inputs), one.labels)
    assert torch.equal(Vanilla().loss(model, one), wanted)


def test_loss_of_pgd_at_by_hand() -> None:
    model, epsilon = network(), 0.1
    stage = PGDAT(epsilon=epsilon, relative_step=0.5, steps=3)
    found = stage.loss(model, batch())
    one = batch()
    noise = torch.rand(one.inputs.shape, generator=one.generator)
    moved = (one.inputs + epsilon * (2 * noise - 1)).clamp(0, 1)
    for _ in range(3):
        moved = moved.detach().requires_grad_()
        cross_entropy(model(moved), one.labels).backward()  # type: ignore[no-untyped-call]
        assert moved.grad is not None
        moved = moved + 0.5 * epsilon * moved.grad.sign()
        moved = torch.clamp(moved, one.inputs - epsilon, one.inputs + epsilon).clamp(0, 1)
    clean = cross_entropy(model(one.inputs), one.labels)
    assert float(found.detach()) > float(clean.detach())
    wanted = cross_entropy(model(moved), one.labels)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_loss_of_trades_by_hand() -> None:
    model, one = network(), batch()
    stage = TRADES(epsilon=0.1, steps=4, beta=3.0)
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda _m, args, _out: seen.append(args[0]))
    found = stage.loss(model, one)
    hook.remove()
    clean, moved = seen[-1].chunk(2)
    assert torch.equal(clean, one.inputs)
    assert 0 < (moved - clean).abs().max().item() <= 0.1 + 1e-6
    p, q = (log_softmax(model(x), 1) for x in (clean, moved))
    divergence = (p.exp() * (p - q)).sum(1).mean()
    assert divergence.item() > 0
    wanted = cross_entropy(model(clean), one.labels) + 3.0 * divergence
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_free_at_equals_its_algorithm() -> None:
    """Shafahi et al., algorithm 1, with batches of 8, 8 and 4 images."""
    epsilon, m = 0.1, 3
    stage = FreeAT(epsilon=epsilon, replays=m, optimization=OPTIMIZATION)
    found = trained(stage)
    seed = torch.randint(
        2**62, (), generator=TrainingContext(data(), seed=5).generator("free_at")
    ).item()
    model, delta = network(), torch.zeros(8, 1, 3, 4)
    momentum = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    batches = Batches(data(), OPTIMIZATION, seed=int(seed))
    steps = len(batches) * m
    for number in range(len(batches)):
        one = batches[number]
        for replay in range(m):
            moved = delta[: len(one.labels)].clone().requires_grad_()
            model.zero_grad()
            inputs = (one.inputs + moved).clamp(0, 1)
            cross_entropy(model(inputs), one.labels).backward()  # type: ignore[no-untyped-call]
            assert moved.grad is not None
            climbed = moved.detach() + epsilon * moved.grad.sign()
            delta[: len(one.labels)] = climbed.clamp(-epsilon, epsilon)
            rate = OPTIMIZATION.rate((number * m + replay) / steps)
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    assert weight.grad is not None
                    momentum[name].mul_(0.9).add_(weight.grad)
                    weight.sub_(rate * momentum[name])
    for ours, own in zip(found.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)


def test_each_batch_comes_again() -> None:
    once = Batches(data(), OPTIMIZATION, seed=1)
    thrice = Batches(data(), OPTIMIZATION, seed=1, replays=3)
    assert len(thrice) == 3 * len(once)
    assert thrice.per_epoch == 3 * once.per_epoch
    for step in range(len(thrice)):
        assert torch.equal(thrice[step].inputs, once[step // 3].inputs)
        assert thrice[step].epoch == once[step // 3].epoch
        assert thrice[step].done == step / len(thrice)


def test_guard_takes_back_the_epoch_that_lost_robustness() -> None:
    model = network()
    attack = LinfPGD(epsilon=0.01, steps=2)
    guard = OverfittingGuard(
        model, data(), attack, most_fall=0.2, generator=make_generator(0, "guard")
    )
    trainer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(200):
        trainer.zero_grad()
        cross_entropy(model(data().inputs()), data().labels).backward()  # type: ignore[no-untyped-call]
        trainer.step()
    assert not guard.fails()
    good = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(-1)
    assert guard.fails()
    assert guard.ended
    assert guard.seen[0] > 0.9 > guard.seen[1]
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())


def test_guard_ends_training_early() -> None:
    """A learning rate that rises from 0 breaks a good network in the second epoch."""
    good = Vanilla(
        optimization=Optimization(epochs=40, batch_size=20, learning_rate=0.5, momentum=0.5)
    ).apply(Candidate(network()), TrainingContext(data(), seed=0))
    wild = Optimization(
        epochs=6, batch_size=20, learning_rate=3000.0, schedule="cyclic", warmup=0.5, momentum=0.0
    )
    stage = FastAT(epsilon=0.02, guard=0.2, optimization=wild)
    done = stage.apply(good, TrainingContext(data(), seed=0))
    record = done.record[1]["record"]
    assert record["ended_early"] == (len(record["loss"]) < 6)
    assert record["ended_early"]
    right = done.model(data().inputs()).argmax(1) == data().labels
    assert right.float().mean().item() >= record["robust_acc"][-2]
    assert record["robust_acc"][-2] - record["robust_acc"][-1] > 0.2


def test_cyclic_rates_are_straight_lines() -> None:
    cyclic = Optimization(learning_rate=0.2, schedule="cyclic", warmup=0.5)
    rates = [cyclic.rate(done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(SpecError, match=r"guard: wanted it without optimization\.ema"):
        FastAT.from_table({"optimization": {"ema": 0.9}})
    with pytest.raises(SpecError, match=r"optimization\.sam: wanted 0"):
        FreeAT.from_table({"optimization": {"sam": 0.1}})


def test_clipped_weights_stay_inside_their_bound() -> None:
    done = trained(Vanilla(optimization=OPTIMIZATION, w_max=0.05))
    layers = [each for each in done.modules() if isinstance(each, nn.Linear)]
    assert max(each.weight.abs().max().item() for each in layers) == pytest.approx(0.05)
    assert max(each.bias.abs().max().item() for each in layers) > 0.05


@pytest.mark.parametrize("kind", ["vanilla", "fast_at", "free_at", "pgd_at", "trades"])
def test_range_decay_narrows_what_layers_read(kind: str) -> None:
    def largest(weight: float) -> float:
        table = {"kind": kind, "range_decay": weight, "optimization": LONG.model_dump()}
        model = trained(HARDEN.build(table))
        hidden = model[:3](data().inputs())  # type: ignore[index]
        return float(hidden.detach().abs().max())

    assert largest(0.3) < 0.8 * largest(0.0)


def test_range_decay_is_the_mean_square_of_the_largest_inputs() -> None:
    model, inputs = network(), batch().inputs
    hidden = torch.relu(model.get_submodule("1")(inputs.flatten(1)))
    wanted = (inputs.max().square() + hidden.max().square()) / 2
    ranges = Ranges(model, [each for each in model.modules() if isinstance(each, nn.Linear)])
    model(1 - inputs)  # another pass, such as the attacker's: the last one counts
    model(inputs)
    assert ranges.mean_square().item() == pytest.approx(wanted.item(), rel=1e-5)
    ranges.remove()
    model(1 - inputs)
    assert ranges.mean_square().item() == pytest.approx(wanted.item(), rel=1e-5)


def test_bounds_that_hold_nothing_are_refused() -> None:
    stage = Vanilla(w_max=0.1, optimization=OPTIMIZATION)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12))
    with pytest.raises(ModelError, match="vanilla: wanted modules for convolutions or linear"):
        stage.apply(Candidate(model), TrainingContext(data(), seed=0))


def test_flips_in_what_layers_read_move_single_words_by_powers_of_two() -> None:
    layer = nn.Linear(4000, 1, bias=False)
    flips = ActivationFlips([layer], 0.01)
    flips.generator = make_generator(7)
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    inputs = torch.randn(3, 4000, generator=make_generator(8)).requires_grad_()
    layer(inputs).sum().backward()
    step = inputs.detach().abs().max() / 127
    change = (seen[0].detach() - inputs.detach()) / step
    bits = change.abs().round()[change.abs() > 0.5].log2()
    single = (bits - bits.round()).abs() < 1e-4
    assert single.float().mean().item() > 0.95  # some words lose two bits
    assert (change.abs() > 0.5).float().mean().item() == pytest.approx(1 - 0.99**8, rel=0.15)
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, layer.weight.detach().expand(3, -1))
    layer.eval()  # as the attacker sees it
    layer(inputs)
    assert torch.equal(seen[1], inputs)
    flips.remove()
    layer.train()
    layer(inputs)
    assert torch.equal(seen[2], inputs)


def test_training_with_flips_takes_other_steps_each_time() -> None:
    plain, broken = (
        trained(PGDAT(optimization=LONG)),
        trained(PGDAT(optimization=LONG, activation_ber=0.02)),
    )
    again = trained(PGDAT(optimization=LONG, activation_ber=0.02))
    pairs = zip(broken.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    pairs = zip(broken.parameters(), plain.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in pairs)
    inputs = data().inputs()
    assert torch.equal(broken(inputs), broken(inputs))
