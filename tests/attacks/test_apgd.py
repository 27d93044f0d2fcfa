"""Ascent with steps that set themselves: against a slow copy of the algorithm, and the authors'."""

import importlib.util
from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.attacks.apgd import (
    AscentLoss,
    LinfAPGD,
    _look_back,
    _State,
    checkpoints_of,
    logits_ratio,
)
from bitproof.attacks.ascent import LinfPGD
from bitproof.core.errors import InputShapeError
from bitproof.core.rng import make_generator

EPSILON, CLASSES = 0.03, 5
installed = pytest.mark.skipif(
    importlib.util.find_spec("pyautoattack") is None,
    reason="optional: pip install 'bitproof[autoattack]'",
)


class SineLayer(nn.Linear):
    """Makes losses that rise and fall; the sums of an image are the same in any batch.

    So a point that does not move has the same loss again, which is no rise.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] * self.weight).sum(-1).sin()


def small_net(classes: int = CLASSES) -> nn.Module:
    """An untrained net in float64, where the order of sums moves no decision."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(SineLayer(12, 40), SineLayer(40, 40), SineLayer(40, classes))
    for weight in net.parameters():
        weight.data *= 4
    return net.double().eval()


class Rounded(nn.Module):
    """Rounds logits and passes gradients through, as integer networks do: many losses are equal."""

    def forward(self, x: Tensor) -> Tensor:
        return x + ((64 * x).round() / 64 - x).detach()


def batch(n: int = 40) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(n, 12, generator=make_generator(1), dtype=torch.float64)
    labels = small_net()(inputs).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % CLASSES  # Some are misclassified from the outset.
    return inputs, labels


def paper_checkpoints(steps: int) -> list[int]:
    """Return the checkpoints w of the paper: ceilings of p N, p as in its section 4."""
    shares = [Fraction(0), Fraction(22, 100)]
    while shares[-1] < 1:
        gap = max(shares[-1] - shares[-2] - Fraction(3, 100), Fraction(6, 100))
        shares.append(shares[-1] + gap)
    return [ceil(share * steps) for share in shares if share <= 1]


def slow_loss(loss: AscentLoss, logits: Tensor, label: int, target: int) -> Tensor:
    """Return the loss of one image, written as in the paper, with its authors' guard against 0."""
    found: Tensor
    if loss == "cross_entropy":
        return logits.exp().sum().log() - logits[label]
    *_, fourth, third, _, first = logits.sort(stable=True).values
    if loss == "dlr":
        other = torch.cat([logits[:label], logits[label + 1 :]]).amax()
        found = -(logits[label] - other) / (first - third + 1e-12)
        return found
    found = -(logits[label] - logits[target]) / (first - (third + fourth) / 2 + 1e-12)
    return found


class SlowClimb:
    """Algorithm 1 of the paper, on one image, line by line."""

    def __init__(self, net: nn.Module, image: Tensor, label: int) -> None:
        self.net, self.image, self.label = net, image, label
        self.halved: dict[bool, int] = {True: 0, False: 0}

    def look(self, point: Tensor, loss: AscentLoss, target: int) -> tuple[float, Tensor, bool]:
        point = point.clone().requires_grad_()
        logits = self.net(point[None])[0]
        value = slow_loss(loss, logits, self.label, target)
        (gradient,) = torch.autograd.grad(value, point)
        return float(value.detach()), gradient, int(logits.argmax()) == self.label

    def project(self, point: Tensor) -> Tensor:
        near = torch.minimum(torch.maximum(point, self.image - EPSILON), self.image + EPSILON)
        return near.clamp(0, 1)

    def run(self, loss: AscentLoss, target: int, start: Tensor, steps: int) -> tuple[Tensor, bool]:
        """Return the first wrong point and true, else the best one and false."""
        alpha, rho = 0.75, 0.75
        x = [self.project(start)]
        value, gradient, right = self.look(x[0], loss, target)
        f, etas = [value], {0: 2 * EPSILON}
        best, best_value, best_gradient, bests = x[0], value, gradient, {0: value}
        if not right:
            return x[0], True
        eta, previous, at, rises = 2 * EPSILON, x[0], x[0], 0
        checkpoints, last = paper_checkpoints(steps), 0
        for k in range(1, steps + 1):
            ahead = self.project(at + eta * gradient.sign())
            moved = ahead if k == 1 else at + alpha * (ahead - at) + (1 - alpha) * (at - previous)
            previous, at, before = at, self.project(moved), value
            value, gradient, right = self.look(at, loss, target)
            f.append(value)
            if not right:
                return at, True
            rises += value > before
            if value > best_value:
                best, best_value, best_gradient = at, value, gradient
            if k in checkpoints and k != last:
                slow = rises < rho * (k - last)
                stuck = etas[last] == eta and bests[last] == best_value
                etas[k], bests[k] = eta, best_value
                self.halved[slow or stuck] += 1
                if slow or stuck:
                    eta, at, value, gradient = eta / 2, best, best_value, best_gradient
                last, rises = k, 0
        return best, False


def slow_attack(attack: LinfAPGD, net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return what the attack should find, image by image."""
    generator, found, halved = make_generator(0), [], {True: 0, False: 0}
    climbs = [
        (loss, place)
        for _ in range(attack.restarts)
        for loss in attack.losses
        for place in (range(attack.targets) if loss == "targeted" else [0])
    ]
    starts = []
    for _ in climbs:
        noise = (2 * torch.rand(inputs.shape, generator=generator) - 1).double()
        starts.append(inputs + EPSILON * noise / noise.abs().amax(1, keepdim=True))
    for i, (image, label) in enumerate(zip(inputs, labels.tolist(), strict=True)):
        clean = net(image[None])[0]
        ranks = [k for k in clean.argsort(descending=True).tolist() if k != label]
        point, fell, climb = image, int(clean.argmax()) != label, SlowClimb(net, image, label)
        for (loss, place), start in zip(climbs, starts, strict=True):
            if not fell:
                point, fell = climb.run(loss, ranks[place], start[i], attack.steps)
        found.append(point)
        halved = {whether: n + climb.halved[whether] for whether, n in halved.items()}
    assert halved[True] > 20, "the comparison needs steps that are halved"
    assert halved[False] > 2, "the comparison needs steps that are not"
    return torch.stack(found)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            LinfAPGD(epsilon=EPSILON, steps=37, losses=("cross_entropy",)), marks=pytest.mark.slow
        ),
        LinfAPGD(epsilon=EPSILON, steps=20, losses=("dlr",), restarts=2),
        LinfAPGD(epsilon=EPSILON, steps=20, losses=("targeted",), targets=3),
        LinfAPGD(epsilon=EPSILON, steps=12, losses=("cross_entropy", "targeted"), targets=2),
    ],
    ids=["cross_entropy", "dlr", "targeted", "both"],
)
def test_it_finds_exactly_what_a_slow_copy_of_the_algorithm_finds(attack: LinfAPGD) -> None:
    net, (inputs, labels) = small_net(), batch()
    if attack.losses == ("dlr",):
        net = nn.Sequential(net, Rounded())
    found = attack.run(net, inputs, labels, generator=make_generator(0))
    slow = slow_attack(attack, net, inputs, labels)
    wrong = net(slow).argmax(dim=1) != labels
    assert 10 < int(wrong.sum()) < 35, "the comparison needs images of both sorts"
    # Sums of a batched and of a single product differ in the last bits, signs do not.
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-12)


def test_an_image_that_resists_is_left_where_its_loss_was_highest() -> None:
    net, (inputs, labels) = small_net(), batch(5)
    seen: list[tuple[Tensor, Tensor]] = []

    def model(x: Tensor) -> Tensor:
        logits: Tensor = net(x)
        if len(x) == 1:
            seen.append((x.detach(), logits.detach()))
        return logits

    attack = LinfAPGD(epsilon=EPSILON, steps=101, losses=("cross_entropy",))
    last_was_best = []
    for image, label in zip(torch.split(inputs, 1), torch.split(labels, 1), strict=True):
        seen.clear()
        found = attack.run(model, image, label, generator=make_generator(0))
        if int(net(found).argmax()) == int(label):
            losses = torch.stack([cross_entropy(logits, label) for _, logits in seen[1:]])
            assert torch.equal(found, seen[1 + int(losses.argmax())][0])
            last_was_best.append(int(losses.argmax()) == attack.steps)
    assert not all(last_was_best), "the last point must not always do"


def test_images_do_not_see_each_other() -> None:
    net, (inputs, labels) = small_net(), batch()
    attack = LinfAPGD(epsilon=EPSILON, steps=10, losses=("cross_entropy",))
    for n in (1, 2):
        few = attack.run(net, inputs[:n], labels[:n], generator=make_generator(0))
        other = labels.clone()
        other[n:] = (other[n:] + 1) % CLASSES
        more = attack.run(net, inputs, other, generator=make_generator(0))
        torch.testing.assert_close(few, more[:n], rtol=0, atol=1e-12)


def test_a_step_is_halved_where_the_loss_rose_too_seldom_or_nothing_changed() -> None:
    """Of four steps, losses rose in 3, 3, 3, 2; the second gained nothing, the third is halved."""
    numbers = torch.arange(4.0)
    state = _State(
        index=numbers.long(),
        x=10 + numbers[:, None],
        before=numbers[:, None],
        gradient=-torch.ones(4, 1),
        value=torch.zeros(4),
        best=20 + numbers[:, None],
        best_gradient=torch.ones(4, 1),
        best_value=torch.tensor([2.0, 1.0, 1.0, 2.0]),
        step=torch.tensor([1.0, 1.0, 0.5, 1.0]),
        rises=torch.tensor([3.0, 3.0, 3.0, 2.0]),
        step_then=torch.ones(4),
        best_then=torch.ones(4),
    )
    after = _look_back(state, steps=4)
    assert after.step.tolist() == [1, 0.5, 0.5, 0.5]
    assert after.x.flatten().tolist() == [10, 21, 12, 23]
    assert after.gradient.flatten().tolist() == [-1, 1, -1, 1]
    assert after.value.tolist() == [0, 1, 0, 2]
    assert after.rises.tolist() == [0, 0, 0, 0]
    assert after.step_then.tolist() == state.step.tolist()
    assert after.best_then.tolist() == state.best_value.tolist()
    assert torch.equal(after.before, state.before)


@given(steps=st.integers(1, 2000))
def test_checkpoints_are_those_of_the_paper(steps: int) -> None:
    assert sorted(checkpoints_of(steps)) == sorted({*paper_checkpoints(steps)} - {0})


@given(
    epsilon=st.floats(1e-4, 1.5),
    steps=st.integers(1, 9),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_it_stays_in_the_ball_and_in_the_range(
    epsilon: float, steps: int, dtype: torch.dtype, seed: int
) -> None:
    net = small_net()
    inputs = torch.rand(6, 12, generator=make_generator(seed)).to(dtype)
    labels = net(inputs.double()).argmax(dim=1)
    found = LinfAPGD(epsilon=epsilon, steps=steps).run(
        lambda x: net(x.double()).to(dtype), inputs, labels, generator=make_generator(seed)
    )
    assert found.dtype == dtype
    # Narrower numbers are rounded towards their centre; the test itself rounds in float64.
    slack = 1e-15 if dtype == torch.float64 else 0.0
    assert (found.double() - inputs.double()).abs().max() <= epsilon + slack
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_ratio_is_that_of_the_paper_at_ties_and_where_the_label_is_not_first() -> None:
    logits = torch.tensor(
        [[4.0, 3.0, 2.0, 0.0], [3.0, 3.0, 1.0, 0.0], [1.0, 5.0, 2.0, 0.0], [2.0, 2.0, 2.0, 2.0]],
        dtype=torch.float64,
    )
    labels, target = torch.tensor([0, 0, 0, 0]), torch.tensor([3, 1, 2, 1])
    plain = logits_ratio(logits, labels, None)
    torch.testing.assert_close(plain, torch.tensor([-0.5, 0.0, 1.0, 0.0]).double())
    led = logits_ratio(logits, labels, target)
    torch.testing.assert_close(led, torch.tensor([-4 / 3, 0.0, 1 / 4.5, 0.0]).double())
    for moved in (logits + 7, 3 * logits):
        torch.testing.assert_close(logits_ratio(moved, labels, None), plain)
        torch.testing.assert_close(logits_ratio(moved, labels, target), led)


def test_a_logit_that_is_not_finite_spoils_no_other_image() -> None:
    net, (inputs, labels) = small_net(), batch()
    labels = net(inputs).argmax(dim=1)

    def broken(x: Tensor) -> Tensor:
        logits: Tensor = net(x)
        odd = (x[:, :1] - inputs[0, 0]).abs() <= EPSILON  # the first image, and what is near it
        lowest = logits == logits.amin(1, keepdim=True)
        return torch.where(odd & lowest, -torch.inf, logits)

    attack = LinfAPGD(epsilon=EPSILON, steps=8, losses=("dlr", "cross_entropy", "targeted"))
    near = (inputs[:, 0] - inputs[0, 0]).abs() <= 2 * EPSILON
    found, whole = (
        attack.run(each, inputs, labels, generator=make_generator(0)) for each in (broken, net)
    )
    assert found.isfinite().all()
    assert near[0]
    torch.testing.assert_close(found[~near], whole[~near], rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_with_too_few_classes_is_refused_in_one_line(classes: int) -> None:
    net, (inputs, _) = small_net(classes), batch()
    labels = net(inputs).argmax(dim=1)
    with pytest.raises(InputShapeError, match=f"at least 4 classes, got {classes}; ") as error:
        LinfAPGD(epsilon=0.1).run(net, inputs, labels, generator=make_generator(0))
    assert "\n" not in str(error.value)
    plain = LinfAPGD(epsilon=0.1, steps=10, losses=("cross_entropy",))
    found = plain.run(net, inputs, labels, generator=make_generator(0))
    assert (net(found).argmax(1) != labels).any()


def test_an_image_that_resists_takes_as_many_passes_as_are_told() -> None:
    seen = {"forward": 0, "backward": 0}

    def model(x: Tensor) -> Tensor:
        seen["forward"] += len(x)
        logits = torch.cat([x[:, :1] + 10, x], 1)
        if logits.requires_grad:
            logits.register_hook(  # type: ignore[no-untyped-call]
                lambda _: seen.update(backward=seen["backward"] + 1)
            )
        return logits

    attack = LinfAPGD(epsilon=0.1, steps=7, restarts=2, targets=3)
    inputs, labels = torch.rand(1, 5, generator=make_generator(0)), torch.tensor([0])
    attack.run(model, inputs, labels, generator=make_generator(0))
    assert seen == {"forward": attack.passes.forward, "backward": attack.passes.backward}
    assert attack.passes.forward == 1 + 2 * (1 + 3) * 8


def robust(net: nn.Module, found: Tensor, labels: Tensor) -> int:
    return int((net(found).argmax(1) == labels).sum())


@installed
@pytest.mark.slow
@pytest.mark.parametrize(("loss", "slack"), [("cross_entropy", 2), ("dlr", 2), ("targeted", 0)])
def test_it_is_not_weaker_than_the_authors_code(
    trained: "Trained", loss: AscentLoss, slack: int
) -> None:
    theirs = pytest.importorskip("pyautoattack.autopgd_base")

    net, inputs, labels, epsilon = trained.net, trained.inputs, trained.labels, trained.epsilon
    attack = LinfAPGD(epsilon=epsilon, steps=40, losses=(loss,))
    ours = robust(net, attack.run(net, inputs, labels, generator=make_generator(0)), labels)
    with torch.random.fork_rng():
        if loss == "targeted":
            other = theirs.APGDAttack_targeted(net, n_iter=40, eps=epsilon, n_target_classes=4)
        else:
            other = theirs.APGDAttack(
                net, n_iter=40, eps=epsilon, loss={"dlr": "dlr"}.get(loss, "ce")
            )
        theirs = robust(net, other.perturb(inputs, labels), labels)
    assert 60 < theirs < 200, "the comparison needs a net at its tipping point"
    # Starts differ. Theirs compares the first loss with 0 and counts rises from a point that it has
    # left, so that its steps are halved at other times; of 300 images, a few more resist it.
    assert ours <= theirs + slack
    assert ours >= theirs - 10


@pytest.mark.slow
def test_two_losses_break_more_than_restarts_of_one_step_length(trained: "Trained") -> None:
    net, inputs, labels = trained.net, trained.inputs, trained.labels
    many, one = (
        robust(net, attack.run(net, inputs, labels, generator=make_generator(0)), labels)
        for attack in (
            LinfAPGD(epsilon=trained.epsilon, steps=20),
            LinfPGD(epsilon=trained.epsilon, steps=20, restarts=5),
        )
    )
    assert many < one - 5


def test_a_tie_with_the_label_still_shows_the_way() -> None:
    """A rounded network gives equal logits: the first of them counts as the answer."""
    for tied in ([2.0, 2.0, 1.0, 0.0], [2.0, 2.0, 2.0, 0.0]):
        logits = torch.tensor([tied], requires_grad=True)
        value = logits_ratio(logits, torch.tensor([0]), None)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.item() == 0
        assert gradient[0, 0] < 0
        assert gradient[0, 1] > 0
