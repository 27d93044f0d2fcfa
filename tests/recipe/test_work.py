import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from bitproof.approx import Exact, Truncated
from bitproof.attacks import ATTACKS
from bitproof.cli.running import DEMO, shipped_recipe
from bitproof.core.passes import Passes
from bitproof.data import Dataset, Splits
from bitproof.evaluation import (
    THREATS,
    AdversarialBitErrors,
    AdversarialExamples,
    AttackOnFaultyChip,
    BlackBoxCheck,
    Clean,
    EvaluatedModel,
    Evaluation,
    FloatModel,
    IntegerModel,
    MemoryFaults,
    MultiplierFaults,
    OnMultiplier,
    Threat,
)
from bitproof.evaluation import multiplier_faults as multiplier_faults_module
from bitproof.explore import SCORES, ChooseMultipliers, Exploration, Hawx
from bitproof.faults import WEIGHT_ATTACKS
from bitproof.faults import bit_search as bit_search_module
from bitproof.harden import (
    HARDEN,
    PGDAT,
    TRADES,
    WCAT,
    Adjust,
    AdvBET,
    Approximate,
    ApproximationAware,
    Candidate,
    Desensitize,
    FastAT,
    FaultAware,
    FreeAT,
    HardeningStage,
    Joint,
    QuantizationAware,
    RandBET,
    Requantize,
    TrainingContext,
    Vanilla,
)
from bitproof.injection import RegisterFaults
from bitproof.injection.engine import Engine
from bitproof.models.digits_cnn import DigitsCNNModule
from bitproof.quant import IntegerNetwork, Scheme
from bitproof.quant.weight_gradient import KeptRun
from bitproof.recipe import ExplorationRecipe, Recipe, explore_recipe, inject_recipe, read_recipe
from bitproof.recipe import run as run_recipe
from bitproof.recipe.campaign_work import estimate_injection
from bitproof.recipe.estimate import DAY, Estimate
from bitproof.recipe.toml import read_spec
from bitproof.recipe.verbs import build_model, load_data
from bitproof.recipe.work import estimate_exploration, estimate_run
from bitproof.train import Optimization
from tests.recipe.test_exploration import BARE, COSTS
from tests.recipe.test_exploration import RECIPE as EXPLORATION
from tests.recipe.test_injection import RECIPE as INJECTION
from tests.recipe.test_injection import parse

LAYERS = 5
"""Layers with weights of the network for digits."""
SHORT = Optimization(epochs=2, batch_size=16, images_per_epoch=32, learning_rate=0.001)
COSTS_FILE = Path(__file__).parents[1] / "contracts" / "multiplier_costs.csv"
STAGES: dict[str, HardeningStage] = {
    "adjust": Adjust(calibration_images=32, attack_images=16, steps=2, grid_points=2),
    "advbet": AdvBET(n_flips=1, activate_below=None, optimization=SHORT),
    "approximate": Approximate(multiplier=Truncated(columns=2)),
    "approximation_aware": ApproximationAware(ber=0.01, lam_adv=0.5, optimization=SHORT),
    "choose_multipliers": ChooseMultipliers(
        multipliers={"exact": Exact(), "coarse": Truncated(columns=2)},
        exploration=Exploration(
            costs=str(COSTS_FILE), profile_images=16, images=16, searches=[Hawx(budget=8)]
        ),
    ),
    "desensitize": Desensitize(mode="trades", steps=2, optimization=SHORT),
    "fast_at": FastAT(guard_images=16, optimization=SHORT),
    "fault_aware": FaultAware(warmup_steps=2, inject_below=None, optimization=SHORT),
    "free_at": FreeAT(replays=2, optimization=SHORT),
    "joint": Joint(ber=0.01, optimization=SHORT),
    "pgd_at": PGDAT(steps=2, optimization=SHORT),
    "quantization_aware": QuantizationAware(
        activations=True, optimization=SHORT.model_copy(update={"sam": 0.01})
    ),
    "randbet": RandBET(rates=(1e-4, 1e-3), activate_below=None, optimization=SHORT),
    "requantize": Requantize(scheme=Scheme(bits=4)),
    "trades": TRADES(steps=2, optimization=SHORT),
    "vanilla": Vanilla(optimization=SHORT),
    "wcat": WCAT(optimization=SHORT),
}
"""One stage of each kind."""
TINY = 1e-6
"""A radius that changes no answer."""
THREAT_SAMPLES: dict[str, Threat] = {
    "adversarial_bit_errors": AdversarialBitErrors(
        levels=(1, 2), batches=2, attack_images=8, images=20
    ),
    "adversarial_examples": AdversarialExamples(
        attack={"kind": "linf_pgd", "epsilon": TINY, "steps": 3, "restarts": 2},
        levels=(TINY, 2 * TINY),
        images=30,
    ),
    "attack_on_faulty_chip": AttackOnFaultyChip(
        fault={"kind": "random_flips", "ber": 0.0},
        attack={"kind": "linf_pgd", "epsilon": TINY, "steps": 3},
        levels=(TINY,),
        chips=2,
        images=20,
    ),
    "black_box_check": BlackBoxCheck(levels=(TINY,), queries=5, images=30),
    "clean": Clean(images=25),
    "memory_faults": MemoryFaults(levels=(1e-4, 1e-3), chips=3, images=10),
    "multiplier_faults": MultiplierFaults(levels=(1, 2), trials=2, images=4),
    "on_multiplier": OnMultiplier(
        multiplier=Truncated(columns=2, signed=True),
        threat=MemoryFaults(levels=(1e-4,), chips=3, images=10),
    ),
    "register_faults": RegisterFaults(trials=4, images=5),
}
"""One threat of each kind."""


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data("digits")


@pytest.fixture(scope="module")
def candidate(splits: Splits) -> Candidate:
    model = build_model("digits_cnn", splits).eval()
    return Candidate(model, Scheme(calibration_images=32))


@dataclass
class Seen:
    """Images that passed: once in a forward pass, twice more where it can be differentiated."""

    images: float = 0.0

    def add(self, outputs: Tensor) -> None:
        self.images += len(outputs) * (3 if outputs.requires_grad else 1)


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Count what passes through networks inside the block, wherever it is executed whole."""
    seen = Seen()

    def look(module: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(module, DigitsCNNModule) and isinstance(outputs, Tensor):
            seen.add(outputs)

    def watch(place: Any, name: str, images: Callable[[Any, Any], float]) -> None:
        original = getattr(place, name)

        def watched(*args: Any, **named: Any) -> Any:
            found = original(*args, **named)
            seen.images += images(args, found)
            return found

        monkeypatch.setattr(place, name, watched)

    with monkeypatch.context():
        watch(IntegerNetwork, "__call__", lambda _args, found: len(found))
        watch(
            IntegerNetwork,
            "differentiable",
            lambda _args, found: len(found) * (3 if found.requires_grad else 1),
        )
        watch(KeptRun, "weight_gradients", lambda args, _found: 3 * len(args[0].logits))
        # A try executes what lies behind one layer: half of the network, in the mean.
        watch(bit_search_module, "logits_after", lambda _args, found: len(found) / 2)
        watch(multiplier_faults_module, "run_broken", lambda _args, found: len(found))
        watch(Engine, "__init__", lambda args, _found: len(args[2]))
        watch(Engine, "run", lambda args, _found: len(args[0].labels) * len(args[2]))
        hook = register_module_forward_hook(look)
        try:
            yield seen
        finally:
            hook.remove()
            monkeypatch.undo()


@pytest.mark.parametrize("kind", THREATS.kinds())
def test_a_threat_tells_how_many_images_pass(
    kind: str, candidate: Candidate, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    threat, test = THREAT_SAMPLES[kind], splits.test.first(60)
    network = candidate.quantize(splits.train)
    # Answers count as right, so that attacks go on to their end.
    data = Dataset("answers", test.images, network(test.inputs()).argmax(1), 10)
    models: list[EvaluatedModel] = [IntegerModel(network)]
    if not threat.integers_only:
        models.append(FloatModel(candidate.model))
    for model in models:
        with counting(monkeypatch) as seen:
            for level, trial in threat.tasks(data):
                threat.measure(model, data, level=level, trial=trial, seed=0)
        told = threat.passes(len(data), layers=LAYERS)
        assert not told.at_least
        assert 0.9 * seen.images <= told.images <= 1.6 * seen.images


@pytest.mark.parametrize("kind", HARDEN.kinds())
def test_a_stage_tells_how_many_images_pass(
    kind: str, candidate: Candidate, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, train = STAGES[kind], splits.train.first(64)
    with counting(monkeypatch) as seen:
        stage.apply(candidate, TrainingContext(train))
    floats = stage.passes(len(train), layers=LAYERS)
    integers = stage.integer_passes(len(train), layers=LAYERS)
    told = floats + integers
    assert not told.at_least
    few = 3 * 64  # looks at a few images, where the network is traced and compared with floats
    assert seen.images - few <= told.images <= 2.5 * seen.images + few


def test_all_that_is_registered_tells_its_passes() -> None:
    told: list[Passes] = [
        ATTACKS.build({"kind": k, "epsilon": 0.1}).passes for k in ATTACKS.kinds()
    ]
    told += [WEIGHT_ATTACKS.build({"kind": k}).passes(LAYERS) for k in WEIGHT_ATTACKS.kinds()]
    told += [SCORES.build({"kind": k}).passes(2) for k in SCORES.kinds()]
    assert not any(one.at_least for one in told)


class Unheard(Threat):
    """A threat that says nothing of its passes."""

    kind: str = "unheard"

    def measure(self, *_args: Any, **_draw: Any) -> Any:
        raise AssertionError


def test_what_says_nothing_makes_a_lower_bound(toy: Recipe, splits: Splits, tmp_path: Path) -> None:
    threats = Evaluation(threats=(Clean(),)).threats
    evaluation = toy.evaluation.model_copy(update={"threats": (*threats, Unheard())})
    recipe = toy.model_copy(update={"evaluation": evaluation})
    found = estimate_run(recipe, splits, tmp_path / "none")
    assert found.at_least
    assert str(found).startswith("at least ")
    evaluation = toy.evaluation.model_copy(update={"threats": threats})
    known = estimate_run(toy.model_copy(update={"evaluation": evaluation}), splits, tmp_path)
    assert found.images - known.images == len(toy.variants) * len(splits.test)


def test_what_is_finished_is_left_out(toy: Recipe, finished: Path, tmp_path: Path) -> None:
    splits = toy.data.load(None)
    whole = estimate_run(toy, splits, tmp_path / "none")
    assert whole.images > 3000
    assert estimate_run(toy, splits, finished).images == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_finished_campaign_and_a_share_are_less(tmp_path: Path) -> None:
    recipe = parse(INJECTION)
    found: list[Estimate] = []

    def keep(splits: Splits, network: IntegerNetwork) -> None:
        for shard in (None, (1, 4)):
            for folder in (tmp_path / "none", tmp_path / "c"):
                one = estimate_injection(recipe, splits.test, network, folder, shard=shard)
                found.append(one)

    inject_recipe(recipe, tmp_path / "c", consent=keep)
    whole, _, quarter, _ = (one.images for one in found)
    assert (whole, quarter) == (40 * 8, 40 * 8 / 4)
    found.clear()
    inject_recipe(recipe, tmp_path / "c", consent=keep, resume=True)
    assert [one.images for one in found] == [320, 0, 80, 0]


def explorable(tmp_path: Path) -> ExplorationRecipe:
    text = EXPLORATION
    for line in (*BARE, "epochs = 4 -> epochs = 1", "images = 100 -> images = 40"):
        old, new = line.split(" -> ")
        text = text.replace(old, new)
    (tmp_path / "costs.csv").write_text(COSTS)
    (tmp_path / "small.toml").write_text(text)
    return read_spec(tmp_path / "small.toml", ExplorationRecipe)


@pytest.mark.slow
def test_a_search_counts_its_choices_and_less_once_they_are_known(tmp_path: Path) -> None:
    recipe, found = explorable(tmp_path), list[Estimate]()

    def keep(splits: Splits) -> None:
        found.append(estimate_exploration(recipe, splits, tmp_path / "o", recipe_dir=tmp_path))

    for resume in (False, True):
        explore_recipe(recipe, tmp_path / "o", recipe_dir=tmp_path, consent=keep, resume=resume)
    first, again = (one.images for one in found)
    assert first > recipe.exploration.choices * recipe.exploration.images
    assert 0 < again < first


@pytest.mark.parametrize("chips", [10**30, 10**400])
def test_numbers_beyond_all_bounds_are_told_at_once(
    toy: Recipe, splits: Splits, tmp_path: Path, chips: int
) -> None:
    faults = MemoryFaults().model_copy(update={"chips": chips})
    evaluation = toy.evaluation.model_copy(update={"threats": (Clean(), faults)})
    recipe = toy.model_copy(update={"evaluation": evaluation})
    begin = time.perf_counter()
    found = estimate_run(recipe, splits, tmp_path / "none")
    assert time.perf_counter() - begin < 10
    assert found.seconds > DAY
    if chips > 10**20:
        assert str(found) == (
            "more than a thousand trillion images, more than a thousand years on this machine"
        )


@pytest.mark.parametrize(
    ("images", "seconds", "words"),
    [
        (1, 0.1, "about 1 images, 1 seconds"),
        (8_249, 70.0, "about 8,200 images, 70 seconds"),
        (310_000, 2400.0, "about 310,000 images, 40 minutes"),
        (999_999, 7300.0, "about 1 million images, 2 hours"),
        (3_140_000_000, 12.3 * DAY, "about 3.1 billion images, 12 days"),
        (10**14, 1e9, "about 100 trillion images, 32 years"),
    ],
)
def test_estimates_are_words(images: int, seconds: float, words: str) -> None:
    assert str(Estimate(images, seconds)) == f"{words} on this machine"


@pytest.mark.slow
def test_the_demo_takes_what_was_estimated(tmp_path: Path) -> None:
    recipe, found = read_recipe(shipped_recipe(DEMO)), list[Estimate]()

    def keep(splits: Splits) -> None:
        found.append(estimate_run(recipe, splits, tmp_path / "none"))

    begin = time.perf_counter()
    run_recipe(recipe, tmp_path / "run", device="cpu", consent=keep)
    real = time.perf_counter() - begin
    assert real / 3 < found[0].seconds < 3 * real, (found[0].seconds, real)


@pytest.mark.slow
def test_a_campaign_takes_what_was_estimated(tmp_path: Path) -> None:
    recipe, found, ends = (
        parse(INJECTION.replace("trials = 40", "trials = 4000")),
        list[Estimate](),
        list[float](),
    )

    def keep(splits: Splits, network: IntegerNetwork) -> None:
        found.append(estimate_injection(recipe, splits.test, network, tmp_path / "none"))
        ends.append(time.perf_counter())

    inject_recipe(recipe, tmp_path / "c", consent=keep)
    real = time.perf_counter() - ends[0]
    assert real / 3 < found[0].seconds < 3 * real, (found[0].seconds, real)
