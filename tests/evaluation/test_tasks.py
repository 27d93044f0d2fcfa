"""Evaluations of networks whose task is no plain classification."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks import FGSM, AutoAttack, LinfPGD, LinfSquare
from bitproof.core.errors import DataError, SpecError
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialBitErrors,
    AdversarialExamples,
    Clean,
    Evaluation,
    MemoryFaults,
    TallyStore,
    ending_of,
    settle_task,
)
from bitproof.evaluation.threat import acc_interval, count
from bitproof.metrics import Binary, Classification, Regression, Segmentation, Sequence, Tally
from bitproof.quant import IntegerNetwork, quantize
from bitproof.recipe.verbs import attack, evaluate, train_model
from bitproof.stats import Row
from bitproof.stats.clusters import cluster_rate, ratio_rate

N = 60
FAULTS = MemoryFaults(levels=(0.02,), chips=3)


def inputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(seed))


def drawn(model: nn.Module, seed: int = 1) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.4
    return model.eval()


def perceptron(k: int, *end: nn.Module) -> nn.Module:
    return drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, k), *end))


def centred(model: nn.Module, images: Tensor) -> nn.Module:
    """Move the last linear layer so that outputs are as often above 0 as below."""
    layers = list(model.children())
    last = next(layer for layer in reversed(layers) if isinstance(layer, nn.Linear))
    before = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Sigmoid)))
    with torch.no_grad():
        last.bias.sub_(before(images).median(0).values)
    return model


def value(rows: list[Row], threat: str, metric: str = "acc") -> float:
    return next(row.value for row in rows if (row.threat, row.metric) == (threat, metric))


@pytest.mark.parametrize("end", [(), (nn.Sigmoid(),)])
def test_network_with_one_output_has_the_accuracy_of_its_sign(end: tuple[nn.Module, ...]) -> None:
    images = inputs(1, 4, 4)
    model = centred(perceptron(1, *end), images)
    network = quantize(model, images)
    labels = (network(images)[:, 0] > (0.5 if end else 0.0)).long()
    labels[:9] = 1 - labels[:9]
    assert 0.3 < float(labels.float().mean()) < 0.7
    data = Dataset.from_arrays(images, labels)
    evaluation = Evaluation(threats=(Clean(), FAULTS))
    rows = evaluate({"integers": network, "float": model}, data, evaluation)
    assert value(rows, "clean") == pytest.approx(1 - 9 / N)
    assert count(network, data).acc == pytest.approx(1 - 9 / N)
    settled = settle_task(data, network, ending=ending_of(network.nodes))
    assert settled.task == Binary(probabilities=bool(end))


def test_pixels_of_an_image_are_not_trials_of_their_own() -> None:
    images = inputs(1, 6, 6)
    model = drawn(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)))
    network = quantize(model, images)
    masks = network(images).argmax(1)
    masks[::2] = (masks[::2] + 1) % 3
    data = Dataset.from_arrays(images, masks)
    rows = evaluate({"unet": network}, data, Evaluation(threats=(Clean(), FAULTS)))
    row = next(row for row in rows if row.metric == "acc")
    assert (row.value, row.n) == (0.5, N)
    assert row.interval is not None
    # Every second image is wrong in every pixel: 60 trials, not 60 x 36.
    assert row.interval.high - row.interval.low == pytest.approx(2 * 1.96 * 0.5 / N**0.5, rel=0.1)
    assert value(rows, "clean", "exact") == 0.5
    assert {row.metric for row in rows if row.threat == "random_flips"} >= {"acc", "miou", "exact"}


def test_interval_of_parts_is_that_of_clusters() -> None:
    generator = np.random.default_rng(0)
    hits, parts = generator.integers(0, 65, 30), np.full(30, 64)
    found = ratio_rate(
        int(hits.sum()),
        30 * 64,
        count=30,
        success_squares=int(hits @ hits),
        products=int(hits @ parts),
        total_squares=int(parts @ parts),
    )
    assert found == pytest.approx(cluster_rate(hits, parts))
    assert acc_interval(Tally(3, 10)).value == 0.3


def test_regression_tells_its_mean_absolute_error() -> None:
    images = inputs(1, 4, 4)
    network = quantize(perceptron(2), images)
    labels = network(images) + torch.tensor([0.25, -0.25])
    labels[0] += 10
    data = Dataset.from_arrays(images, labels)
    evaluation = Evaluation(threats=(Clean(),))
    rows = evaluate({"one": network}, data, evaluation, task=Regression(tolerance=0.3))
    assert value(rows, "clean") == pytest.approx(1 - 1 / N)
    off = (network(images) - labels).abs().double().mean()
    assert value(rows, "clean", "mae") == pytest.approx(float(off), rel=1e-6)
    assert next(row.unit for row in rows if row.metric == "mae") == "label"


def test_keys_of_a_classification_are_as_before_and_others_tell_their_task() -> None:
    data = Dataset.from_arrays(inputs(1, 4, 4), torch.arange(N) % 2)
    evaluation = Evaluation(threats=(Clean(),))
    keys = [
        list(evaluation.keys("network", data.with_task(task)).values())
        for task in (None, Classification(probabilities=False), Binary(probabilities=False))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_counts_with_parts_come_back_from_disk(tmp_path: object) -> None:
    found = Segmentation().tally(torch.randn(4, 3, 2, 2), torch.zeros(4, 2, 2, dtype=torch.long))
    errors = Regression(tolerance=1.0).tally(torch.randn(4, 1), torch.zeros(4))
    path = tmp_path / "tallies.jsonl"  # type: ignore[operator]
    store = TallyStore(path)
    store.add("a", found)
    store.add("b", errors)
    assert (TallyStore(path).get("a"), TallyStore(path).get("b")) == (found, errors)


class Spy(nn.Module):
    """Counts how often it is asked."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k, self.asked = k, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return x.flatten(1)[:, : self.k] - 0.5


TOKENS = Dataset.from_arrays(np.arange(N * 16).reshape(N, 16), np.arange(N) % 2)
PIXELS = Dataset.from_arrays(inputs(1, 4, 4), torch.arange(N) % 2)
FEATURES = Dataset.from_arrays(inputs(16), torch.arange(N) % 2)
PGD = AdversarialExamples(levels=(0.1,))


@pytest.mark.parametrize(
    ("data", "k", "threat", "message"),
    [
        (TOKENS, 2, PGD, "linf_pgd: wanted inputs that can be perturbed, user holds tokens"),
        (FEATURES, 2, AdversarialExamples(levels=(0.1,), attack=AutoAttack(epsilon=0.1)),
         "autoattack: wanted images of shape"),
        (PIXELS, 1, AdversarialExamples(levels=(0.1,), attack=AutoAttack(epsilon=0.1)),
         "autoattack: wanted a classification by logits, got Binary"),
        (PIXELS, 1, AdversarialBitErrors(attack_images=5, batches=1),
         "progressive_bit_search: wanted a classification, got task 'binary'"),
    ],
)  # fmt: skip
def test_what_a_threat_cannot_measure_on_is_refused_before_it_runs(
    data: Dataset, k: int, threat: Clean, message: str
) -> None:
    model = Spy(k)
    threats = (PGD, threat) if data is FEATURES else (threat,)
    with pytest.raises(SpecError, match=message):
        evaluate({"m": model}, data, Evaluation(threats=threats))
    assert model.asked == 2


@pytest.mark.parametrize(
    ("data", "k", "message"),
    [
        (Dataset.from_arrays(inputs(16), torch.arange(N) % 5), 3, "wants labels from 0 to 2"),
        (Dataset.from_arrays(inputs(16), torch.arange(N) % 5), 1, "wants labels 0 and 1, got 2"),
        (PIXELS.first(0), 2, "wanted at least one image, got none"),
    ],
)
def test_outputs_that_fit_no_task_are_refused(data: Dataset, k: int, message: str) -> None:
    with pytest.raises(DataError, match=f"^user: .*{message}"):
        evaluate({"m": Spy(k)}, data, Evaluation(threats=(Clean(),)))


def test_networks_of_different_tasks_are_refused() -> None:
    networks = {"logits": Spy(2), "probabilities": nn.Sequential(Spy(2), nn.Softmax(dim=1))}
    with pytest.raises(SpecError, match=r"wanted one for all networks, got .* for logits"):
        evaluate(networks, PIXELS, Evaluation(threats=(Clean(),)))


def test_tokens_are_counted_as_they_are() -> None:
    class Parity(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            assert tokens.dtype == torch.int64
            even = (tokens[:, 1] % 2 == 1).float()
            return torch.stack([even, 1 - even], 1)

    rows = evaluate({"m": Parity()}, TOKENS, Evaluation(threats=(Clean(),)))
    assert value(rows, "clean") == 0.5


def test_regression_without_a_tolerance_is_not_counted_by_the_way() -> None:
    data = Dataset.from_arrays(inputs(16), torch.linspace(0, 1, N))
    with pytest.raises(DataError, match="wanted task 'regression' with a tolerance"):
        count(Spy(1), data)


@pytest.mark.parametrize(
    "method", [FGSM(epsilon=0.2), LinfPGD(epsilon=0.2), LinfSquare(epsilon=0.2)]
)
def test_attacks_do_harm_to_every_task(method: FGSM) -> None:
    images = inputs(1, 4, 4)
    flat, pixels = perceptron(3), drawn(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)))
    one = centred(perceptron(1), images)
    with torch.no_grad():
        cases = [
            (one, (one(images)[:, 0] > 0).long(), None),
            (flat, (flat(images) > 0).long(), None),
            (flat, flat(images) + 0.1, Regression(tolerance=0.2)),
            (pixels, pixels(images).argmax(1), None),
            (FirstMap(pixels), (pixels(images)[:, 0] > 0).long(), Segmentation()),
        ]
    for model, labels, task in cases:
        data = Dataset.from_arrays(images, labels)
        found = attack(model, method, data, task=task)
        assert float((found - images).abs().max()) <= 0.2 + 1e-6
        judged = settle_task(data, model, task)
        moved = Dataset.from_arrays(found, labels, task=judged.task)
        assert count(model, judged).acc == 1.0
        assert count(model, moved).acc < 0.99


class FirstMap(nn.Module):
    """One output a pixel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)[:, :1]
        return found


def test_attack_on_tokens_is_refused_before_the_network_is_asked() -> None:
    model = Spy(2)
    with pytest.raises(SpecError, match="linf_pgd: wanted inputs that can be perturbed"):
        attack(model, LinfPGD(epsilon=0.1), TOKENS)
    assert model.asked == 0


def test_training_on_labels_that_are_no_classes_is_refused() -> None:
    data = Dataset.from_arrays(inputs(16), inputs(3, seed=2))
    with pytest.raises(DataError, match="wanted one class an image to train on, got float32"):
        train_model(nn.Linear(16, 3), data)


def test_adversarial_evaluation_of_a_segmentation_has_its_rows() -> None:
    images = inputs(1, 4, 4)
    network: IntegerNetwork = quantize(drawn(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1))), images)
    data = Dataset.from_arrays(images, network(images).argmax(1), n_classes=3)
    threat = AdversarialExamples(levels=(0.1,), attack=LinfPGD(epsilon=0.1, steps=3))
    rows = evaluate({"one": network}, data, Evaluation(threats=(Clean(), threat)))
    assert value(rows, "clean", "miou") == 1.0
    assert value(rows, "linf_pgd", "miou") < value(rows, "linf_pgd") < 1.0
    assert all(math.isfinite(row.value) for row in rows)


def test_sequence_of_float_model_is_counted_place_by_place() -> None:
    features = inputs(5, 4)
    model = drawn(nn.Sequential(nn.Linear(4, 3)))
    with torch.no_grad():
        labels = model(features).argmax(2)
    labels[:, 0] = -100
    labels[:, 1] = (labels[:, 1] + 1) % 3
    data = Dataset.from_arrays(features, labels)
    settled = settle_task(data, model)
    assert settled.task == Sequence(probabilities=False)
    assert count(model, settled).acc == 0.75
