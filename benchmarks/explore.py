"""Searches over multipliers for networks of 10 to 10,000 filters, and LeNet-5's 32 choices.

scores:  ours profiles 128 images and scores every filter with every one of 12 multipliers; the
         rival measures sensitivity by emulation, one filter and multiplier at a time (of 8 such
         runs, the time is scaled up to all); the limit is one pass forward and back in floats.
search:  ours finds the convex front of all choices and fills one up to a bound; the rival is
         SciPy's integer programming (HiGHS) at that bound, to 0.1 % of the optimum, a minute at
         most; the limit is one sort of all steps. What ours costs beyond HiGHS is printed.
LeNet-5: ours profiles 512 images and ranks all choices of two multipliers; the rival measures all
         32 on 10,000 images; the limit is one of these measurements.
All on one thread; images are random, weights too: times do not depend on them.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, eye, kron
from table import Row, json_path, save, show
from torch import nn
from torch.nn.functional import cross_entropy

from bitproof.approx import Truncated, TruncatedOperands
from bitproof.approx.base import Multiplier
from bitproof.approx.partial_products import Exact
from bitproof.data import Dataset
from bitproof.evaluation import Clean, Evaluation
from bitproof.explore import (
    CostedMultiplier,
    CountStore,
    Emulator,
    HawxScore,
    Measuring,
    MultiplierSet,
    cheapest_within,
    convex_front,
    take_profile,
    units_of,
)
from bitproof.models import MODELS
from bitproof.quant import IntegerNetwork, Scheme, quantize
from bitproof.stats import Cost

UNITS = (10, 100, 1000, 10_000)
IMAGES = 128
PATIENCE = 60.0
"""Seconds that HiGHS has."""
RUNS = 8
"""Emulated runs that the rival of scores is timed on."""
SCHEME = Scheme.model_validate(
    {
        "weight": {"kind": "affine", "symmetric": True, "signed": True},
        "activation_signed": True,
        "activation_symmetric": True,
    }
)


def blocks(count: int) -> MultiplierSet:
    """Return an exact multiplier and others that leave more and more out."""
    rough: list[Multiplier] = [Truncated(columns=columns, signed=True) for columns in range(2, 8)]
    rough += [TruncatedOperands(bits=bits, signed=True) for bits in (1, 2, 3, 4, 5)]
    chosen = [Exact(signed=True), *rough][:count]
    costs = [
        Cost(area_um2=700 - 40 * n, power_mw=0.4 - 0.03 * n, delay_ns=1.5, source="benchmark")
        for n in range(count)
    ]
    named = zip(chosen, costs, strict=True)
    return MultiplierSet(
        tuple(CostedMultiplier(str(n), m, m.table(), c) for n, (m, c) in enumerate(named))
    )


def network_of(units: int) -> tuple[nn.Module, IntegerNetwork, Dataset]:
    """Return a network with so many filters, each of 36 taps on 4x4 places, in ten layers."""
    width = max(units // 10, 4)
    layers = max(units // width, 1)
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Conv2d(4, width, 3, padding=1), nn.ReLU()]
    for _ in range(layers - 1):
        groups = max(width // 4, 1)
        while width % groups:
            groups -= 1
        parts += [nn.Conv2d(width, width, 3, padding=1, groups=groups), nn.ReLU()]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*parts).eval()
    images = torch.rand(IMAGES, 4, 4, 4)
    data = Dataset("random", images, torch.arange(IMAGES) % min(width, 10), width)
    return model, quantize(model, images, SCHEME), data


def seconds(work: Callable[[], object]) -> float:
    """Return the shorter of two runs."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def score_row(count: int, own: MultiplierSet) -> Row:
    """Return what scores of one network take."""
    model, network, data = network_of(count)
    units = units_of(network, data.inputs(slice(0, 1)), granularity="filter")

    def ours() -> np.ndarray:
        return HawxScore().score(take_profile(network, data, units, signed=True), own)

    def floats() -> None:
        images = data.inputs().requires_grad_()
        cross_entropy(model(images), data.labels).backward()

    emulator = Emulator(network, units, own, Evaluation(threats=(Clean(),)), data, data)
    draw = np.random.default_rng(0)
    taken = []
    for _ in range(RUNS):
        choice = np.zeros(units.count, np.int64)
        choice[draw.integers(units.count)] = 1 + draw.integers(len(own) - 1)
        taken.append(emulator.measure(choice).seconds)
    rival = float(np.median(taken)) * units.count * (len(own) - 1)
    return Row(f"scores, {units.count} filters", rival, seconds(ours), seconds(floats), "s")


def search_row(count: int, n_blocks: int) -> Row:
    """Return what solving takes, and say how far from the optimum it ends."""
    draw = np.random.default_rng(0)
    scores = np.sort(draw.random((count, n_blocks)) ** 3, 1) * draw.random((count, 1))
    costs = np.sort(draw.random((count, n_blocks)), 1)[:, ::-1].copy()
    front = convex_front(scores, costs)
    bound = float(front.scores[len(front) // 3])
    choice = cheapest_within(scores, costs, bound)
    start = time.perf_counter()
    best = milp(
        costs.ravel(),
        constraints=[
            LinearConstraint(csr_matrix(kron(eye(count), np.ones((1, n_blocks)))), 1, 1),
            LinearConstraint(csr_matrix(scores.reshape(1, -1)), -np.inf, bound),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(count * n_blocks),
        options={"mip_rel_gap": 1e-3, "time_limit": PATIENCE},
    )
    rival = time.perf_counter() - start
    own = costs[np.arange(count), choice].sum()
    if best.fun is None:
        print(f"{count} units: HiGHS found nothing in {PATIENCE:.0f} s")
    else:
        print(f"{count} units: cost {100 * (own / best.fun - 1):+.3f} % beyond HiGHS")
    steps = draw.random(count * n_blocks)
    taken = seconds(lambda: cheapest_within(scores, costs, bound))
    return Row(f"search, {count} units", rival, taken, seconds(lambda: np.sort(steps)), "s")


def lenet_row(own: MultiplierSet) -> Row:
    """Return what all choices of two multipliers take, and what scores take."""
    spec = MODELS.build({"kind": "lenet5"})
    model = spec.build(
        in_channels=1, image_size=28, n_classes=10, generator=torch.Generator().manual_seed(0)
    ).eval()
    images = torch.rand(10_000, 1, 28, 28)
    data = Dataset("random", images, torch.arange(10_000) % 10, 10)
    network = quantize(model, images[:256], SCHEME)
    units = units_of(network, images[:1], granularity="layer")
    choices = [np.arange(32)[n] // 2 ** np.arange(4, -1, -1) % 2 for n in range(32)]

    def ours() -> None:
        profile = take_profile(network, data.first(512), units, signed=True)
        scores = units.summed(HawxScore().score(profile, own))
        np.argsort([scores[np.arange(5), choice].sum() for choice in choices])

    emulator = Emulator(network, units, own, Evaluation(threats=(Clean(),)), data, data)
    counted = Measuring.opened(emulator, CountStore()).measure(choices)
    taken = [one.seconds for one in counted]
    name = "LeNet-5, 2^5 choices"
    return Row(name, sum(taken), seconds(ours), float(np.median(taken)), "s")


def main() -> None:
    path = json_path(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    own = blocks(12)
    rows = [score_row(count, own) for count in UNITS]
    rows += [search_row(count, len(own)) for count in UNITS]
    rows.append(lenet_row(blocks(2)))
    show("Searches over multipliers, seconds", rows)
    if path is not None:
        save(path, rows)


if __name__ == "__main__":
    main()
