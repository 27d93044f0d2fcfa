"""The engine on networks whose products come from tables, against full re-execution."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import Drum, Exact, LowerOr, Multiplier, Truncated
from bitproof.core.rng import make_generator
from bitproof.faults.space import FaultSpace
from bitproof.faults.table import ACTIONS, WORD_SITES, FaultTable
from bitproof.injection.engine import COUNTS, End, Engine
from bitproof.quant import IntegerNetwork, Scheme, quantize
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.products import Products

Row = tuple[int, str, str, int, int, int, str]


class Maps(nn.Module):
    """Convolutions behind each other, in groups and over one axis, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=2)
        self.next = nn.Conv2d(4, 4, 3, padding=1)
        self.line, self.head = nn.Conv1d(4, 4, 3, stride=2, padding=1), nn.Linear(4, 3)

    def features(self, x: Tensor) -> Any:
        x = torch.relu(self.next(torch.relu(self.deep(torch.relu(self.stem(x))))))
        return self.line(x.flatten(2)).transpose(1, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x).mean(1))


class Attended(Maps):
    """The same with attention before the head: products of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


PLAIN = Scheme()
NARROW = Scheme(bias=None, activation_bits=6, activation_signed=True)
MULTIPLIERS: dict[str, list[Multiplier]] = {
    "terms": [Truncated(columns=5, signed=True)],
    "looked up": [Drum(width=3)],
    "beside exact ones": [LowerOr(columns=4)],
    "filter by filter": [Drum(width=3), Exact(), Truncated(columns=6)],
}


def put_on(network: IntegerNetwork, multipliers: list[Multiplier]) -> IntegerNetwork:
    tables = [multiplier.table() for multiplier in multipliers]
    stack = torch.stack([table.products for table in tables])
    products = {}
    for node in network.nodes:
        if node.op in MAC_OPS:
            weight = network.tensors.get(f"{node.name}.weight")
            filters = 1 if weight is None else len(weight.codes)
            own = stack if weight is not None else stack[:1]
            choice = torch.arange(filters) % len(own)
            offset = 40 * torch.arange(filters, dtype=torch.int32)
            products[node.name] = Products(own, tables[0].signed, choice, offset)
    return replace(network, products=products)


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


def make_engine(how: str, kind: type[Maps] = Maps, scheme: Scheme = PLAIN) -> Recording:
    torch.manual_seed(3)
    images = torch.rand(2, 2, 6, 6, generator=make_generator(0))
    network = put_on(quantize(kind().eval(), images, scheme), MULTIPLIERS[how])
    return Recording(network, images, network(images).argmax(1))


def draw_rows(engine: Engine, each: int) -> list[Row]:
    """Return faults of every site in every layer, each a trial; biased to high bits."""
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for site in WORD_SITES:
        for stratum in FaultSpace(sites=(site,)).strata(engine.network, engine.golden.shapes):
            places = random.integers(0, stratum.size, each)
            places += len(stratum.bits) - 1 - places % len(stratum.bits)
            places -= random.integers(0, 3, each)
            for element, tap, bit in zip(*stratum.locate(places), strict=True):
                action = ACTIONS[random.integers(0, 3)] if random.random() < 0.3 else "flip"
                place = (int(element), int(tap), int(bit))
                rows.append((len(rows), site, stratum.layer, *place, action))
    return rows


def check(engine: Recording, rows: list[Row]) -> int:
    """Compare all trials with full re-execution; return how many changed some logit."""
    names = [node.name for node in engine.network.nodes]
    faults = FaultTable.from_rows(rows, layers=names)
    trials, digest = list(range(faults.n_trials)), engine.network.digest()
    found, golden, changed = engine.logits(faults, trials), engine.golden.logits, 0
    counts = engine.run(faults, trials)
    assert counts.shape == (len(trials), len(COUNTS))
    for trial in trials:
        wanted = engine.reference(faults, trial)
        assert torch.equal(found[trial], wanted), faults.of_trial(trial).rows()
        assert counts[trial, 0] == int((wanted == golden).all(1).sum())
        changed += not torch.equal(wanted, golden)
    assert engine.network.digest() == digest
    return changed


@pytest.mark.parametrize("how", ["terms", "filter by filter"])
def test_single_faults_of_every_site_equal_full_execution(how: str) -> None:
    engine = make_engine(how)
    rows = draw_rows(engine, 1)
    assert {row[1] for row in rows} == set(WORD_SITES)
    assert check(engine, rows) > len(rows) / 5


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [PLAIN, NARROW], ids=["plain", "narrow"])
@pytest.mark.parametrize("kind", [Maps, Attended])
@pytest.mark.parametrize("how", MULTIPLIERS)
def test_many_faults_equal_full_execution(how: str, kind: type[Maps], scheme: Scheme) -> None:
    engine = make_engine(how, kind, scheme)
    rows = draw_rows(engine, 3)
    check(engine, rows)
    check(engine, [(row[0] // 3, *row[1:]) for row in rows])


def test_trials_of_several_faults_equal_full_execution() -> None:
    engine = make_engine("looked up")
    check(engine, [(row[0] // 5, *row[1:]) for row in draw_rows(engine, 1)])


@pytest.mark.parametrize("how", MULTIPLIERS)
def test_the_run_without_faults_is_that_of_the_network(how: str) -> None:
    engine = make_engine(how, Attended)
    assert torch.equal(engine.golden.logits, engine.network(engine.golden.inputs))
    exact = replace(engine.network, products={})
    assert not torch.equal(exact(engine.golden.inputs), engine.golden.logits)
