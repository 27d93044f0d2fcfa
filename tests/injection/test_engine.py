"""The engine, which does again only what a fault can have changed, against full re-execution."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.faults.bounding import Restriction
from bitproof.faults.space import FaultSpace
from bitproof.faults.table import ACTIONS, WORD_SITES, FaultTable
from bitproof.injection import changed_layer
from bitproof.injection import engine as engine_module
from bitproof.injection import incremental as first_changes
from bitproof.injection.engine import COUNTS, End, Engine
from bitproof.injection.golden import Golden, Suffix
from bitproof.metrics.outcomes import outcomes
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize
from bitproof.quant.integers import run_integers

Row = tuple[int, str, str, int, int, int, str]
IMAGES = 4


class Branches(nn.Module):
    """Residual sums, a concatenation, shared inputs, both poolings, a node with three readers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1)
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1, bias=False)
        self.out = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.stem(x))
        y = torch.relu(self.a(x) + x)
        z = nn.functional.max_pool2d(torch.cat([self.b(x), y], 1), 2)
        tail = nn.functional.avg_pool2d(y - 0.5 * x, 2)
        return self.out(torch.cat([z[:, :3] * tail, z[:, 3:]], 1).flatten(1))


class Transformer(nn.Module):
    """One block with a class token, a positional embedding, layer norms, attention and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.place = nn.Parameter(torch.randn(1, 4, 4))
        self.first, self.second = nn.LayerNorm(4), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.patch(x.flatten(2))
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        y = self.first(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.second(x))
        return self.out(x[:, 0])


class Depthwise(nn.Module):
    """Grouped convolutions, also over one axis, a group norm, and logits that are clamped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, (2, 1), groups=2)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.GroupNorm(2, 4)
        self.line = nn.Conv1d(4, 4, 3, stride=2, padding=1, dilation=2, groups=2)
        self.out = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Any:
        x = torch.sigmoid(self.norm(self.deep(torch.relu(self.stem(x)))))
        return torch.relu(self.out(self.line(x.mean(3)).flatten(1)))


class Folded(nn.Module):
    """Windows beside the images on the first axis, as in Swin transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(1, 2, 2), nn.Linear(18, 5)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.conv(x.reshape(-1, 1, 4, 4))).flatten(1)
        return self.out(torch.relu(self.inner(x)).reshape(-1, 10))


class Turned(nn.Module):
    """Positions before images, as in older transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.out = nn.Linear(16, 5), nn.LayerNorm(5), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(torch.relu(self.inner(x.flatten(2).permute(1, 0, 2))))
        return self.out(x.permute(1, 0, 2).flatten(1))


class Ending(nn.Module):
    """Real outputs behind the last accumulators: cut, scaled, and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(48, 7)

    def forward(self, x: Tensor) -> Any:
        x = self.out(torch.relu(self.conv(x)).flatten(1))
        return torch.softmax(x[:, 1:] * 0.5, 1)


SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    Branches: (2, 4, 4),
    Transformer: (3, 2, 2),
    Depthwise: (2, 4, 4),
    Folded: (2, 4, 4),
    Turned: (2, 4, 4),
    Ending: (2, 4, 4),
}
SCHEMES = {
    "plain": Scheme(),
    "narrow": Scheme(
        weight=AffineQuantizer(bits=4, per_channel=True, symmetric=False, signed=False),
        bias=None,
        activation_bits=5,
        activation_signed=True,
        activation_rounding="truncate",
    ),
}
CASES = [(kind, name) for kind in SHAPES for name in SCHEMES]


def slow_but(*quick: object) -> list[Any]:
    """Return all networks; those that are not `quick` wait for the slow run."""
    return [
        kind if kind in quick else pytest.param(kind, marks=pytest.mark.slow) for kind in SHAPES
    ]


SINGLES = [
    pytest.param(*case, marks=[] if case[1] == "plain" or case[0] is Branches else pytest.mark.slow)
    for case in CASES
]


class Recording(Engine):
    """Keeps the logits of all trials of a run."""

    ends: tuple[End, ...] = ()

    def _count(self, counts: np.ndarray, end: End) -> None:
        self.ends = (*self.ends, end)
        super()._count(counts, end)

    def logits(self, faults: FaultTable, trials: list[int]) -> list[Tensor]:
        """Return the logits of each trial, as the engine knows them."""
        known = len(self.ends)
        self.run(faults, trials)
        found = [self.golden.logits.clone() for _ in trials]
        for end in self.ends[known:]:
            for row, image, values in zip(*end, strict=True):
                found[int(row)][int(image)] = values
        return found


def make_engine(
    kind: type[nn.Module], scheme: str, bounds: Mapping[str, Restriction] | None = None
) -> Recording:
    torch.manual_seed(3)
    images = torch.rand(IMAGES, *SHAPES[kind], generator=make_generator(0))
    network = quantize(kind().eval(), images, SCHEMES[scheme])
    labels = network(images).argmax(1)
    labels[::3] = 0
    return Recording(network, images, labels, bounds)


def draw_rows(
    engine: Engine, each: int, *, seed: int = 0, sites: tuple[str, ...] = WORD_SITES
) -> list[Row]:
    """Return faults of every site in every layer, each a trial; biased to high bits."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for site in WORD_SITES:
        if site not in sites:
            continue
        for stratum in FaultSpace(sites=(site,)).strata(engine.network, engine.golden.shapes):
            places = random.integers(0, stratum.size, each)
            places[::2] += len(stratum.bits) - 1 - places[::2] % len(stratum.bits)
            for element, tap, bit in zip(*stratum.locate(places), strict=True):
                action = ACTIONS[random.integers(0, 3)] if random.random() < 0.5 else "flip"
                place = (int(element), int(tap), int(bit))
                rows.append((len(rows), site, stratum.layer, *place, action))
    return rows


def table_of(engine: Engine, rows: list[Row], n_trials: int | None = None) -> FaultTable:
    names = [node.name for node in engine.network.nodes]
    return FaultTable.from_rows(rows, layers=names, n_trials=n_trials)


def grouped(rows: list[Row], sizes: list[int], seed: int = 1) -> list[Row]:
    """Return the same faults, several a trial, put together by chance."""
    order = np.random.default_rng(seed).permutation(len(rows))
    found: list[Row] = []
    trial = at = 0
    while at < len(order):
        size = sizes[trial % len(sizes)]
        found += [(trial, *rows[index][1:]) for index in order[at : at + size]]
        at, trial = at + size, trial + 1
    return found


def count(
    logits: Tensor, golden: Tensor, labels: Tensor, *, probabilities: bool = False
) -> list[int]:
    """Return the counts of one trial, image by image, from sorted probabilities."""
    counts = dict.fromkeys(COUNTS, 0)
    for now, was, label in zip(logits.tolist(), golden.tolist(), labels.tolist(), strict=True):
        ranking = sorted(range(len(was)), key=lambda k: (-was[k], k))
        top = max(range(len(now)), key=lambda k: (now[k], -k))
        odds = [
            values[ranking[0]] if probabilities else share(values, ranking[0])
            for values in (was, now)
        ]
        moved = abs(odds[1] - odds[0]) / odds[0]
        counts["masked"] += now == was
        counts["sdc1"] += top != ranking[0]
        counts["sdc5"] += top not in ranking[:5]
        counts["sdc10"] += moved > 0.1
        counts["sdc20"] += moved > 0.2
        counts["correct"] += top == label
    return list(counts.values())


def share(values: list[float], k: int) -> float:
    powers = [math.exp(value - max(values)) for value in values]
    return powers[k] / sum(powers)


def check(engine: Recording, faults: FaultTable) -> int:
    """Compare all trials with full re-execution; return how many changed some logit."""
    trials = list(range(faults.n_trials))
    before, golden = engine.network.digest(), engine.golden.logits
    codes = {name: one.clone() for name, one in engine.golden.codes.items()}
    found = engine.logits(faults, trials)
    counts = engine.run(faults, trials)
    assert counts.shape == (len(trials), len(COUNTS))
    changed = 0
    for trial in trials:
        wanted = engine.reference(faults, trial)
        rows = faults.of_trial(trial).rows()
        assert torch.equal(found[trial], wanted), rows
        ends = engine.network.nodes[-1].op == "softmax"
        judged = count(wanted, golden, engine.labels, probabilities=ends)
        assert counts[trial].tolist() == judged, rows
        changed += not torch.equal(wanted, golden)
    assert engine.network.digest() == before
    assert all(torch.equal(engine.golden.codes[name], one) for name, one in codes.items())
    return changed


@pytest.mark.parametrize(("kind", "scheme"), SINGLES)
def test_single_faults_of_every_site_equal_full_execution(
    kind: type[nn.Module], scheme: str
) -> None:
    engine = make_engine(kind, scheme)
    rows = draw_rows(engine, 1)
    assert {row[1] for row in rows} == set(WORD_SITES)
    assert check(engine, table_of(engine, rows)) > len(rows) / 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize(("kind", "scheme"), CASES)
def test_many_single_faults_equal_full_execution(
    kind: type[nn.Module], scheme: str, seed: int
) -> None:
    engine = make_engine(kind, scheme)
    check(engine, table_of(engine, draw_rows(engine, 6, seed=seed)))
    check(engine, table_of(engine, grouped(draw_rows(engine, 6, seed=seed), [2, 1, 5, 20])))


@pytest.mark.parametrize("kind", slow_but(Branches, Turned))
def test_trials_of_several_faults_equal_full_execution(kind: type[nn.Module]) -> None:
    engine = make_engine(kind, "plain")
    rows = grouped(draw_rows(engine, 2, seed=5), [2, 9, 3])
    assert check(engine, table_of(engine, rows)) > 5


def several_in_one_node(engine: Engine) -> list[Row]:
    """Return faults of which 1 to 4 strike the same node in one trial."""
    rows = sorted(draw_rows(engine, 2, seed=7), key=lambda row: (row[2], row[1]))
    found: list[Row] = []
    trial = 0
    for before, row in zip([rows[0], *rows], rows, strict=False):
        trial += before[2] != row[2] or len(found) % 4 == 0
        found.append((trial, *row[1:]))
    return found


@pytest.mark.parametrize("kind", slow_but(Branches, Turned))
def test_several_faults_in_one_node_equal_full_execution(kind: type[nn.Module]) -> None:
    engine = make_engine(kind, "plain")
    check(engine, table_of(engine, several_in_one_node(engine)))


@pytest.fixture(scope="module")
def branches() -> Recording:
    return make_engine(Branches, "plain")


def test_trials_without_faults_are_masked(branches: Recording) -> None:
    faults = table_of(branches, [(1, "accumulator", "out", 0, -1, 31, "flip")], 4)
    counts = branches.run(faults, [0, 1, 2, 3, 99])
    right = int((branches.golden.logits.argmax(1) == branches.labels).sum())
    for row in (0, 2, 3, 4):
        assert counts[row].tolist() == [IMAGES, 0, 0, 0, 0, 0, right]
    assert counts[1].tolist() != counts[0].tolist()
    assert branches.run(faults, []).shape == (0, len(COUNTS))


def test_bits_stuck_at_what_they_are_change_nothing(branches: Recording) -> None:
    rows: list[Row] = []
    for row in draw_rows(branches, 6, sites=("weight", "bias")):
        code = int(branches.network.tensors[f"{row[2]}.{row[1]}"].codes.flatten()[row[3]])
        action = f"stuck{code >> row[5] & 1}"
        rows.append((row[0], *row[1:6], action))
    counts = branches.run(table_of(branches, rows), list(range(len(rows))))
    assert (counts[:, 0] == IMAGES).all()


def test_an_image_that_falls_back_to_the_golden_run_is_left_out(branches: Recording) -> None:
    faults = table_of(branches, draw_rows(branches, 12, sites=("activation",)))
    trials = list(range(faults.n_trials))
    known = len(branches.ends)
    branches.logits(faults, trials)
    reached = sum(len(rows) for rows, *_ in branches.ends[known:])
    masked = sum(
        int((branches.reference(faults, trial) == branches.golden.logits).all(1).sum())
        for trial in trials
    )
    assert masked > 10
    assert reached < IMAGES * len(trials) - masked / 2


@pytest.mark.parametrize("images", [1, 3, 1000])
@pytest.mark.parametrize("kind", slow_but(Branches))
def test_batching_has_no_influence(
    kind: type[nn.Module], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(kind, "plain")
    faults = table_of(engine, draw_rows(engine, 2))
    trials = list(range(faults.n_trials))
    wanted = engine.run(faults, trials)
    monkeypatch.setattr(engine_module, "MOST_IMAGES", images)
    monkeypatch.setattr(first_changes, "MOST_CHANNELS", images)
    assert np.array_equal(engine.run(faults, trials), wanted)


def test_order_and_company_of_trials_have_no_influence(branches: Recording) -> None:
    faults = table_of(branches, grouped(draw_rows(branches, 2), [1, 2, 1]))
    trials = list(range(faults.n_trials))
    wanted = branches.run(faults, trials)
    order = np.random.default_rng(0).permutation(len(trials)).tolist()
    assert np.array_equal(branches.run(faults, order), wanted[order])
    alone = [branches.run(faults, [trial])[0] for trial in trials[::7]]
    assert np.array_equal(alone, wanted[::7])
    assert np.array_equal(branches.run(faults, [5, 5]), wanted[[5, 5]])


def test_counts_of_images_add_up(branches: Recording) -> None:
    faults = table_of(branches, draw_rows(branches, 4))
    trials = list(range(faults.n_trials))
    inputs, labels = branches.golden.inputs, branches.labels
    parts = [
        Engine(branches.network, inputs[part], labels[part]).run(faults, trials)
        for part in (slice(0, 1), slice(1, 3), slice(3, None))
    ]
    assert np.array_equal(sum(parts), branches.run(faults, trials))


@pytest.mark.parametrize("kind", [Folded, Turned])
def test_two_images_beside_two_positions_are_not_mixed_up(kind: type[nn.Module]) -> None:
    whole = make_engine(kind, "plain")
    assert not whole.golden.by_image
    inputs, labels = whole.golden.inputs, whole.labels
    two = Recording(whole.network, inputs[:2], labels[:2])
    assert not two.golden.by_image
    faults = table_of(two, draw_rows(two, 1))
    check(two, faults)
    rest = Engine(whole.network, inputs[2:], labels[2:])
    trials = list(range(faults.n_trials))
    sums = two.run(faults, trials) + rest.run(faults, trials)
    assert np.array_equal(sums, whole.run(faults, trials))


@pytest.mark.parametrize("kind", slow_but(Branches, Turned))
def test_every_image_meets_the_same_fault(kind: type[nn.Module]) -> None:
    whole = make_engine(kind, "plain")
    faults = table_of(whole, draw_rows(whole, 1))
    alone = [
        Engine(whole.network, image[None], label[None])
        for image, label in zip(whole.golden.inputs, whole.labels, strict=True)
    ]
    for trial in range(0, faults.n_trials, 4):
        logits = torch.cat([one.reference(faults, trial) for one in alone])
        assert torch.equal(logits, whole.reference(faults, trial))


# Faults that other parts of bitproof can express, too.


@pytest.mark.parametrize("kind", slow_but(Branches, Transformer))
def test_faults_in_memory_equal_a_network_with_those_words(kind: type[nn.Module]) -> None:
    engine = make_engine(kind, "plain")
    rows = [(*row[:6], "flip") for row in draw_rows(engine, 2, seed=9, sites=("weight", "bias"))]
    found = engine.logits(table_of(engine, rows), list(range(len(rows))))
    for (_, site, layer, element, _, bit, _), logits in zip(rows, found, strict=True):
        name = f"{layer}.{site}"
        codes = engine.network.tensors[name].codes.clone()
        raw = codes.flatten().numpy().view(f"u{codes.element_size()}")
        grid = engine.network.tensors[name].grid
        raw[element] ^= 1 << bit
        if grid.signed and grid.bits < 8:
            continue  # words shorter than a byte are sign-extended; test_injection covers them
        changed = engine.network.with_codes(
            {name: torch.from_numpy(raw.view(codes.numpy().dtype)).reshape(codes.shape)}
        )
        assert torch.equal(run_integers(changed, engine.golden.inputs), logits)


@pytest.mark.parametrize("kind", [Branches, Transformer, Depthwise])
def test_faults_in_activations_equal_words_read_back_wrong(kind: type[nn.Module]) -> None:
    engine = make_engine(kind, "plain")
    rows = [(*row[:6], "flip") for row in draw_rows(engine, 2, sites=("activation",))]
    found = engine.logits(table_of(engine, rows), list(range(len(rows))))
    for (_, _, layer, element, _, bit, _), logits in zip(rows, found, strict=True):

        def corrupt(node: object, codes: Tensor, grid: object) -> Tensor:
            if getattr(node, "name", "") != layer:  # noqa: B023 - called in this turn only
                return codes
            flat = codes.flatten(1).clone()
            flat[:, element] ^= 1 << bit  # noqa: B023
            return flat.reshape(codes.shape)

        logits_read = run_integers(engine.network, engine.golden.inputs, corrupt=corrupt)
        assert torch.equal(logits_read, logits)


# Bounds on activations.


def tight(engine: Engine, how: str) -> dict[str, Restriction]:
    """Return bounds that cut many words of the run without faults, too."""
    found: dict[str, Restriction] = {}
    for name, codes in engine.golden.codes.items():
        if name not in engine.network.grids or codes.dtype.is_floating_point:
            continue
        ordered = codes.flatten().sort().values
        low, high = (int(ordered[int(len(ordered) * part)]) for part in (0.2, 0.7))
        point = int(engine.network.grids[name].zero_point)

        def clamp(x: Tensor, low: int = low, high: int = high) -> Tensor:
            return x.clamp(low, high)

        def zero(x: Tensor, high: int = high, point: int = point) -> Tensor:
            return x.masked_fill(x > high, point)

        found[name] = clamp if how == "clamp" else zero
    return found


@pytest.mark.parametrize("how", ["clamp", "zero"])
@pytest.mark.parametrize("kind", slow_but(Branches))
def test_bounded_networks_equal_full_execution(kind: type[nn.Module], how: str) -> None:
    free = make_engine(kind, "plain")
    engine = make_engine(kind, "plain", tight(free, how))
    assert not torch.equal(engine.golden.logits, free.golden.logits)
    rows = draw_rows(engine, 1)
    check(engine, table_of(engine, rows))
    check(engine, table_of(engine, grouped(rows, [3])))


def test_words_are_bounded_after_they_are_struck() -> None:
    free = make_engine(Branches, "plain")
    codes = free.golden.codes["stem"]
    _, *place = (int(i) for i in (codes > 128).nonzero()[0])
    element = int(np.ravel_multi_index(place, codes.shape[1:]))
    bounds: dict[str, Restriction] = {"stem": lambda x: x.clamp(max=100)}
    engine = make_engine(Branches, "plain", bounds)
    # Stored above 128, read as 100. Without its highest bit, it may be read as less.
    faults = table_of(engine, [(0, "activation", "stem", element, -1, 7, "stuck0")])
    logits = engine.logits(faults, [0])[0]

    def corrupt(node: object, x: Tensor, grid: object) -> Tensor:
        if getattr(node, "name", "") != "stem":
            return x
        broken = x.clone()
        broken[:, place[0], place[1], place[2]] &= 127
        return broken.clamp(max=100)

    assert torch.equal(logits, run_integers(free.network, free.golden.inputs, corrupt=corrupt))


# What the engine takes for granted.


def test_the_first_axis_of_images_is_told_from_others() -> None:
    by_image = {kind: make_engine(kind, "plain").golden.by_image for kind in SHAPES}
    assert by_image == {
        Branches: True,
        Transformer: True,
        Depthwise: True,
        Folded: False,
        Turned: False,
        Ending: True,
    }


def test_constants_are_those_that_have_no_axis_for_images() -> None:
    golden = make_engine(Transformer, "plain").golden
    assert golden.by_image
    assert "place" in golden.constant
    kinds = {node.name: node.op for node in golden.network.nodes}
    expanded = [name for name, op in kinds.items() if op == "expand"]
    assert expanded
    assert not golden.constant.intersection(expanded)


def readers(network: IntegerNetwork, name: str) -> Iterator[str]:
    changed = {name}
    for node in network.nodes:
        if changed.intersection(node.inputs):
            changed.add(node.name)
            yield node.name


@pytest.mark.parametrize("kind", SHAPES)
def test_a_suffix_holds_all_that_depends_on_a_node(kind: type[nn.Module]) -> None:
    golden = make_engine(kind, "plain").golden
    for node in golden.network.nodes:
        suffix = golden.suffix(node.name)
        assert [one.name for one in suffix.nodes] == list(readers(golden.network, node.name))
        assert golden.suffix(node.name) is suffix


def drop_reader(suffix: Suffix) -> Suffix:
    return replace(suffix, nodes=suffix.nodes[1:]) if len(suffix.nodes) > 2 else suffix


def narrow_everywhere(suffix: Suffix) -> Suffix:
    return replace(suffix, narrow=frozenset(node.name for node in suffix.nodes))


@pytest.mark.parametrize("spoil", [drop_reader, narrow_everywhere])
def test_a_wrong_suffix_would_be_noticed(
    spoil: Callable[[Suffix], Suffix], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Golden.suffix
    monkeypatch.setattr(Golden, "suffix", lambda self, name: spoil(right(self, name)))
    engine = make_engine(Branches, "plain")
    with pytest.raises((AssertionError, KeyError, ValueError, RuntimeError)):
        check(engine, table_of(engine, draw_rows(engine, 3)))


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_few_changed_words_are_added_to_known_sums(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All convolutions are done so, or some, or none: counts are those of full executions."""
    torch.manual_seed(0)
    images = torch.rand(6, 3, 10, 10, generator=make_generator(0))
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, stride=2), nn.Conv2d(24, 16, 3)]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
    model.extend([nn.Flatten(), nn.Linear(64, 5)])
    network = quantize(model, images)
    engine = Engine(network, images, torch.zeros(6, dtype=torch.long))
    ways: list[str] = []
    of = engine._changed.output

    def watched(*arguments: Any) -> Tensor | None:
        found = of(*arguments)
        ways.append("whole" if found is None else "changed")
        return found

    monkeypatch.setattr(changed_layer, "LARGEST_SHARE", share)
    monkeypatch.setattr(engine._changed, "output", watched)
    rows: list[Row] = [
        (trial, "weight", layer, 7 * trial + 1, -1, 7 - trial % 3, "flip")
        for layer, first in (("0", 0), ("2", 20))
        for trial in range(first, first + 20)
    ]
    faults = FaultTable.from_rows(rows)
    counts = engine.run(faults, list(range(40)))
    assert ("changed" in ways) == (share > 0)
    assert ("whole" in ways) == (share < 0.05)
    for trial, found in enumerate(counts):
        logits = engine.reference(faults, trial)
        assert (
            found[: len(COUNTS) - 1].tolist()
            == outcomes(logits, engine.golden.logits).sum(0).tolist()
        )
