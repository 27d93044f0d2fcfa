from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.core.errors import DivergenceError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.data.augment import Flip
from bitproof.train import Batch, Optimization, fit_, train_

DATA = Dataset.from_arrays(
    torch.randint(0, 256, (50, 1, 4, 4), generator=make_generator(0)).to(torch.uint8),
    torch.arange(50) % 3,
)


def network() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=make_generator(1)) * 0.1)
    return model


def run(
    optimization: Optimization,
    *,
    loss: Callable[[nn.Module, Batch], Tensor] | None = None,
    seed: int = 2,
    flips: bool = False,
) -> tuple[nn.Module, list[float], list[Batch]]:
    model, seen = network(), list[Batch]()

    def value(batch: Batch) -> Tensor:
        seen.append(batch)
        return loss(model, batch) if loss else cross_entropy(model(batch.inputs), batch.labels)

    history = fit_(
        model,
        DATA,
        optimization,
        loss=value,
        generator=make_generator(seed),
        augmentation=[Flip()] if flips else [],
    )
    return model, history, seen


def test_same_generator_same_weights() -> None:
    steps = Optimization(epochs=2, batch_size=16)
    (first, *_), (again, *_), (other, *_) = (run(steps, seed=s, flips=True) for s in (2, 2, 3))
    states = [torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_one_step_is_the_one_of_the_formula() -> None:
    steps = Optimization(epochs=1, batch_size=50, learning_rate=0.5, momentum=0.0, weight_decay=0.1)
    model, _, (batch,) = run(steps)
    wanted = network()
    cross_entropy(wanted(batch.inputs), batch.labels).backward()  # type: ignore[no-untyped-call]
    for moved, start in zip(model.parameters(), wanted.parameters(), strict=True):
        assert start.grad is not None
        expected = start - 0.5 * (start.grad + 0.1 * start)
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-6)


def test_every_image_comes_once_an_epoch_in_a_new_order() -> None:
    _, history, seen = run(Optimization(epochs=3, batch_size=16))
    assert [len(batch.labels) for batch in seen] == [16, 16, 16, 2] * 3
    assert [batch.epoch for batch in seen] == [0] * 4 + [1] * 4 + [2] * 4
    epochs = [torch.cat([b.inputs for b in seen if b.epoch == e]) for e in range(3)]
    for images in epochs:
        ours, theirs = images.flatten(1).tolist(), DATA.inputs().flatten(1).tolist()
        assert sorted(ours) == sorted(theirs)
    assert not torch.equal(epochs[0], epochs[1])
    assert len(history) == 3


def test_images_per_epoch_bounds_an_epoch() -> None:
    _, _, seen = run(Optimization(epochs=2, batch_size=16, images_per_epoch=20))
    assert [len(batch.labels) for batch in seen] == [16, 4, 16, 4]
    _, _, seen = run(Optimization(epochs=1, batch_size=16, images_per_epoch=1000))
    assert sum(len(batch.labels) for batch in seen) == 50


def test_done_rises_evenly_from_zero() -> None:
    _, _, seen = run(Optimization(epochs=2, batch_size=25))
    assert [batch.done for batch in seen] == [0.0, 0.25, 0.5, 0.75]


def test_history_is_the_mean_loss_of_each_epoch() -> None:
    recorded: list[float] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        value = cross_entropy(model(batch.inputs), batch.labels)
        recorded.append(float(value.detach()))
        return value

    _, history, _ = run(Optimization(epochs=2, batch_size=25), loss=loss)
    assert history == pytest.approx([sum(recorded[:2]) / 2, sum(recorded[2:]) / 2])


def test_after_backward_sees_gradients_before_the_step() -> None:
    model, calls = network(), list[bool]()
    before = [weight.detach().clone() for weight in model.parameters()]

    def look(batch: Batch) -> None:
        assert all(weight.grad is not None for weight in model.parameters())
        same = zip(model.parameters(), before, strict=True)
        calls.append(batch.done > 0 or all(torch.equal(now, then) for now, then in same))

    fit_(
        model,
        DATA,
        Optimization(epochs=1, batch_size=16),
        loss=lambda batch: cross_entropy(model(batch.inputs), batch.labels),
        generator=make_generator(0),
        after_backward=look,
    )
    assert calls == [True] * 4


def test_gradients_are_cut_to_max_norm() -> None:
    steps = Optimization(
        epochs=1, batch_size=50, learning_rate=1.0, momentum=0.0, weight_decay=0.0, max_norm=1e-3
    )
    model, *_ = run(steps)
    moved = zip(model.parameters(), network().parameters(), strict=True)
    length = torch.cat([(now - then).flatten() for now, then in moved]).norm()
    assert float(length.detach()) == pytest.approx(1e-3, rel=1e-2)


def test_frozen_weights_stay() -> None:
    model = network()
    model[1].weight.requires_grad_(False)  # type: ignore[index]
    train_(model, DATA, Optimization(epochs=1, batch_size=16), generator=make_generator(0))
    assert torch.equal(model[1].weight, network()[1].weight)  # type: ignore[index]
    assert not torch.equal(model[1].bias, network()[1].bias)  # type: ignore[index]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 3, 7])
def test_a_loss_that_is_not_finite_ends_training(value: float, step: int) -> None:
    count = iter(range(100))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        factor = value if next(count) == step else 1.0
        return cross_entropy(model(batch.inputs), batch.labels) * factor

    with pytest.raises(
        DivergenceError, match=rf"the loss became {value} in epoch {step // 4 + 1};"
    ):
        run(Optimization(epochs=2, batch_size=16), loss=loss)


def test_training_ends_in_evaluation_mode_and_lowers_the_loss() -> None:
    model = network().train()
    history = train_(
        model, DATA, Optimization(epochs=20, learning_rate=0.1), generator=make_generator(0)
    )
    assert not model.training
    assert history[-1] < history[0]


def test_bfloat16_reaches_the_loss_and_not_the_weights() -> None:
    seen: list[torch.dtype] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.inputs)
        seen.append(logits.dtype)
        return cross_entropy(logits, batch.labels)

    model, *_ = run(Optimization(epochs=1, precision="bfloat16"), loss=loss)
    assert seen == [torch.bfloat16]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_terms_of_a_loss_are_differentiated_one_after_the_other() -> None:
    first, both = network(), network()
    steps = Optimization(epochs=2, batch_size=16)

    def terms(batch: Batch) -> Iterator[Tensor]:
        yield 0.25 * cross_entropy(first(batch.inputs), batch.labels)
        assert all(weight.grad is not None for weight in first.parameters())
        yield 0.5 * first(batch.inputs).square().mean()

    def whole(batch: Batch) -> Tensor:
        error = cross_entropy(both(batch.inputs), batch.labels)
        size: Tensor = both(batch.inputs).square().mean()
        return 0.25 * error + 0.5 * size

    one, other = (
        fit_(model, DATA, steps, loss=loss, generator=make_generator(0))
        for model, loss in ((first, terms), (both, whole))
    )
    assert one == other
    for weight, wanted in zip(first.parameters(), both.parameters(), strict=True):
        assert torch.equal(weight, wanted)


def test_convolutions_train_in_the_layout_of_the_batches_and_keep_theirs() -> None:
    layers = [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 2, padding=1), nn.Conv2d(5, 3, 3)]
    layers[2].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, layouts = nn.Sequential(*layers, nn.Flatten()), set[bool]()
    before = [*model.parameters()]

    def turned(layer: nn.Conv2d) -> bool:
        return layer.weight.is_contiguous(memory_format=torch.channels_last)

    def loss(batch: Batch) -> Tensor:
        layouts.update(map(turned, layers))
        return cross_entropy(model(batch.inputs), batch.labels)

    fit_(model, DATA, Optimization(epochs=1), loss=loss, generator=make_generator(0))
    assert layouts == {True}
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))
    assert [turned(layer) for layer in layers[1:]] == [False, True]


@pytest.mark.parametrize("draws_before", [0, 3])
def test_dropout_depends_on_the_generator_alone(draws_before: int) -> None:
    weights = []
    for seed in (2, 2, 3):
        net = nn.Sequential(nn.Dropout(0.5), network())
        torch.rand(draws_before)
        train_(net, DATA, Optimization(batch_size=16), generator=make_generator(seed))
        weights.append(torch.cat([weight.flatten() for weight in net.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
