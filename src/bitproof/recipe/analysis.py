"""Networks side by side: scaling factors, failure rates of layers, and how the two are related.

Model:  the failure rate of a layer is the share of images, right without a fault, whose answer
        changes when one bit of one word that the layer reads is flipped. The rank correlation is
        taken over all layers of all networks, and between networks over means (geometric for
        factors). Layers differ in more than their factors, so it is also taken inside each layer,
        between networks, where there are four networks or more: the mean over layers. With the
        networks of a run, the loss under its memory faults, 1 - accuracy / clean accuracy, is
        ranked as well, at the level where networks differ most.
Source: Fasfous et al., "Mind the Scaling Factors", DATE 2022; METHODS D.2 (deliverable test).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from bitproof.core.errors import SpecError
from bitproof.core.progress import SILENT, Progress
from bitproof.data import Dataset
from bitproof.evaluation import IntegerModel, check_data
from bitproof.injection import FaultGroup, Injection
from bitproof.quant import IntegerNetwork
from bitproof.quant.scaling import LayerScaling, mean_scaling, scaling_factors
from bitproof.recipe.injection import inject
from bitproof.report.run import CLEAN, Run
from bitproof.stats import Interval, Row, student_half_width
from bitproof.stats.correlation import rank_correlation

FIGURES = ("activation", "weight", "product", "relative_flip")
"""What failure rates are compared with, fields of `LayerScaling`."""
SCALING_IMAGES = 256
"""Images that layers are seen on."""


@dataclass(frozen=True)
class Failures:
    """How often faults in what one layer reads change an answer."""

    rate: Interval
    """As a fraction of trials and images."""
    trials: int


@dataclass(frozen=True)
class NetworkAnalysis:
    """The layers of one network."""

    name: str
    layers: tuple[LayerScaling, ...]
    failures: Mapping[str, Failures]
    """By layer; empty where they were not measured."""

    def mean(self, figure: str) -> float:
        """Return the geometric mean of a figure over layers."""
        return mean_scaling(self.layers, figure)

    def mean_failure(self) -> float:
        """Return the mean failure rate over layers."""
        return fmean(one.rate.value for one in self.failures.values())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        failures = {
            layer: {"rate": list(one.rate), "trials": one.trials}
            for layer, one in self.failures.items()
        }
        layers = [layer.to_dict() for layer in self.layers]
        means = {figure: self.mean(figure) for figure in FIGURES}
        return {"name": self.name, "means": means, "layers": layers, "failures": failures}


@dataclass(frozen=True)
class Correlation:
    """How failures rank with one figure."""

    measured: str
    """`failures`: of layers; else the threat and level of a run under which accuracy is lost."""
    figure: str
    over: str
    """`layers`: all layers of all networks; `networks`: means; `within`: inside each layer."""
    value: Interval
    n: int
    """Pairs; for `within`, layers."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "value": list(self.value)}


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found."""

    networks: tuple[NetworkAnalysis, ...]
    correlations: tuple[Correlation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "networks": [one.to_dict() for one in self.networks],
            "correlations": [one.to_dict() for one in self.correlations],
        }


def analyze(
    networks: Mapping[str, IntegerNetwork],
    data: Dataset,
    *,
    trials: int = 0,
    images: int = 64,
    losses: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Analysis:
    """Return scaling factors, failure rates and their correlations.

    Args:
        networks: integer networks, by name.
        data: test images; the first are used.
        trials: faults in each layer of each network; 0: failure rates are not measured.
        images: images, right without a fault, that meet each.
        losses: shares of accuracy that networks lose to a threat, by threat and name; see
            `losses_of`.
        seed: root of whatever is drawn.
        progress: who watches.

    Raises:
        SpecError: a network gets too few images right.
        QuantizationError: a network has no layer with weights.
        DataError: there are no images, or labels lie beyond the outputs of a network.
        InputShapeError: images are of another shape than those of calibration.
    """
    for name, network in networks.items():
        check_data(name, IntegerModel(network), data)
    seen = data.first(min(len(data), SCALING_IMAGES)).inputs()
    found = []
    for name, network in networks.items():
        layers = tuple(scaling_factors(network, seen))
        progress.say(f"{name}: {len(layers)} layers")
        failures = {}
        if trials:
            injection = _faults(len(layers) * trials, images, seed)
            failures = _failures(inject(network, data, injection, progress=progress))
        found.append(NetworkAnalysis(name, layers, failures))
    correlations = list(_correlations(found, seed)) if trials else []
    for threat, lost in (losses or {}).items():
        known = [one for one in found if one.name in lost]
        for figure in FIGURES:
            points = [(one.mean(figure), lost[one.name]) for one in known]
            value = _correlation(points, seed)
            if value is not None:
                correlations.append(Correlation(threat, figure, "networks", value, len(points)))
    return Analysis(tuple(found), tuple(correlations))


def losses_of(run: Run) -> dict[str, dict[str, float]]:
    """Return what the networks of a run lose to its memory faults, by threat and network.

    Of each threat, the level counts at which losses differ most; a loss is the share of the
    network's clean accuracy.
    """
    found = {}
    clean = {row.variant: row.value for row in run.rows if _is_acc(row, CLEAN)}
    for threat, label in run.facts.threats.items():
        if label.family != "memory_fault":
            continue
        levels: dict[float, dict[str, float]] = {}
        for row in run.rows:
            if _is_acc(row, threat) and row.level is not None and clean.get(row.variant):
                loss = 1 - row.value / clean[row.variant]
                levels.setdefault(row.level, {})[row.variant] = loss
        if levels:
            level = max(levels, key=lambda level: pstdev(levels[level].values()))
            found[f"{threat} {level:g}"] = levels[level]
    return found


def _is_acc(row: Row, threat: str) -> bool:
    return (row.threat, row.metric) == (threat, "acc")


def _faults(trials: int, images: int, seed: int) -> Injection:
    """Return single flips in what layers read, shared out evenly over layers and bits."""
    return Injection(
        faults=(FaultGroup(sites=("input",)),),
        trials=trials,
        allocation="equal",
        images=images,
        only_correct=True,
        seed=seed,
    )


def _failures(summary: Mapping[str, Any]) -> dict[str, Failures]:
    """Return the failure rate of each layer that a campaign struck."""
    return {
        row["layer"]: Failures(Interval(*row["rates"]["sdc1"]), row["trials"])
        for row in summary["layers"]
        if row["rates"]
    }


def _correlations(networks: Sequence[NetworkAnalysis], seed: int) -> Iterator[Correlation]:
    for figure in FIGURES:
        pairs = [
            (getattr(layer, figure), one.failures[layer.layer].rate.value)
            for one in networks
            for layer in one.layers
            if layer.layer in one.failures
        ]
        means = [(one.mean(figure), one.mean_failure()) for one in networks if one.failures]
        for over, points in (("layers", pairs), ("networks", means)):
            value = _correlation(points, seed)
            if value is not None:
                yield Correlation("failures", figure, over, value, len(points))
        if (within := _within(networks, figure, seed)) is not None:
            yield within


def _within(networks: Sequence[NetworkAnalysis], figure: str, seed: int) -> Correlation | None:
    """Return the mean over layers of the correlation between networks, interval between layers."""
    points: dict[str, list[tuple[float, float]]] = {}
    for one in networks:
        for layer in one.layers:
            if layer.layer in one.failures:
                pair = (getattr(layer, figure), one.failures[layer.layer].rate.value)
                points.setdefault(layer.layer, []).append(pair)
    values = [
        value.value for own in points.values() if (value := _correlation(own, seed)) is not None
    ]
    if len(values) < 2:
        return None
    mean, half = fmean(values), student_half_width(values)
    interval = Interval(max(mean - half, -1.0), mean, min(mean + half, 1.0))
    return Correlation("failures", figure, "within", interval, len(values))


def _correlation(points: Sequence[tuple[float, float]], seed: int) -> Interval | None:
    try:
        return rank_correlation([x for x, _ in points], [y for _, y in points], seed=seed)
    except SpecError:  # too few, or all equal
        return None
