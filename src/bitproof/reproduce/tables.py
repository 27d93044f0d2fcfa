"""The published tables that we aim at, and the numbers that their papers state.

The cells of a table are not listed here: they follow from the recipes of its jobs, see `jobs`.
Values and marks of trust are those of docs/methods.md: S is stated by the authors.
"""

from dataclasses import dataclass

from bitproof.core.errors import UnknownKindError, near, shorten


@dataclass(frozen=True)
class StatedNumber:
    """One number that a paper states, and the cells that it can be compared with."""

    about: str
    """What it is, in words."""
    variant: str
    threat: str
    metric: str
    value: float
    """As a fraction."""
    source: str
    trust: str
    """How far the number can be trusted, a mark of METHODS."""
    networks: tuple[str, ...]
    """What the paper measured it on."""
    datasets: tuple[str, ...]
    level: float | None = None
    """Level of the threat, as cells have it; None: whatever level the cell has."""

    def covers(self, network: str, dataset: str) -> bool:
        """Return whether the paper measured this network on this data set."""
        return network in self.networks and dataset in self.datasets

    def fits(self, variant: str, threat: str, metric: str, level: float | None) -> bool:
        """Return whether it stands against such a cell."""
        same = (self.variant, self.threat, self.metric) == (variant, threat, metric)
        return same and self.level in {None, level}


@dataclass(frozen=True)
class Table:
    """One table or figure of a paper, as a family of cells."""

    name: str
    title: str
    source: str
    published: tuple[StatedNumber, ...] = ()
    matrix: tuple[str, ...] = ()
    """Variants of the asymmetry matrix, in order; none: the table has no such matrix."""

    def find(
        self,
        variant: str,
        threat: str,
        metric: str,
        *,
        level: float | None,
        network: str,
        dataset: str,
    ) -> StatedNumber | None:
        """Return the published number that stands against such a cell."""
        fitting = (n for n in self.published if n.fits(variant, threat, metric, level))
        return next((n for n in fitting if n.covers(network, dataset)), None)


_LARGEST = (
    "RESQ, arXiv 2603.15413, abstract: the largest gain over ResNet-18, VGG-16, EfficientNet and "
    "Swin-Tiny on CIFAR-10, CIFAR-100 and GTSRB, level not stated; read as percentage points"
)

_NETWORKS = ("resnet18", "vgg16", "efficientnet_b0", "swin_tiny")
_DATASETS = ("cifar10", "cifar100", "gtsrb")

RESQ_MATRIX = Table(
    name="resq-matrix",
    title="RESQ: what each hardening stage does to accuracy, attack and fault resilience",
    source="RESQ, arXiv 2603.15413 (METHODS A)",
    published=(
        StatedNumber(
            about="largest gain in attack resilience",
            variant="s1+s2+s3",
            threat="linf_pgd",
            metric="gain",
            value=0.1035,
            source=_LARGEST,
            trust="S",
            networks=_NETWORKS,
            datasets=_DATASETS,
        ),
        StatedNumber(
            about="largest gain in fault resilience",
            variant="s1+s2+s3",
            threat="random_flips",
            metric="gain",
            value=0.1247,
            source=_LARGEST,
            trust="S",
            networks=_NETWORKS,
            datasets=_DATASETS,
        ),
    ),
    matrix=("baseline", "s1", "s2", "s1+s2", "s2+s1", "s1+s2+s3"),
)

MULTIPLIER_SWEEP = Table(
    name="multiplier-sweep",
    title="Approximate multipliers: accuracy, attack and fault resilience of one network on each",
    source="EvoApproxLib, DATE 2017, 10.23919/DATE.2017.7926993; no paper states these numbers",
)

_STUTZ = "Stutz et al., MLSys 2021, poster: SimpleNet on CIFAR-10, 8 bits, 50 chips"


def _accuracy(
    variant: str,
    error: float,
    *,
    level: float,
    threat: str = "random_flips",
    source: str = _STUTZ,
    trust: str = "S",
) -> StatedNumber:
    """Return a stated test error, in per cent, as an accuracy."""
    return StatedNumber(
        about=f"accuracy of {variant} under {threat} at {level:g}",
        variant=variant,
        threat=threat,
        metric="acc",
        value=round(1 - error / 100, 6),
        source=source,
        trust=trust,
        networks=("simplenet",),
        datasets=("cifar10",),
        level=level,
    )


RANDBET_LADDER = Table(
    name="randbet-ladder",
    title="Bit error robustness: what quantization, clipping and RandBET do at each bit error rate",
    source="Stutz et al., MLSys 2021 and TPAMI 2022 (METHODS E)",
    published=(
        _accuracy("normal", 4.36, level=0.0, threat="clean"),
        _accuracy("rquant", 4.32, level=0.0, threat="clean"),
        _accuracy("clipping", 4.42, level=0.0, threat="clean"),
        _accuracy("normal", 24.76, level=0.005),
        _accuracy("rquant", 11.28, level=0.005),
        _accuracy("rquant", 32.05, level=0.01),
        _accuracy("clipping", 13.08, level=0.01),
        _accuracy("randbet", 6.70, level=0.01, trust="D"),
    ),
)

PROFILED_CHIPS = Table(
    name="profiled-chips",
    title="Trained on random errors or on one pattern, tested on simulated profiled chips",
    source="Stutz et al., MLSys 2021 (METHODS E.5 and E.7)",
    published=(
        _accuracy("randbet", 7.04, level=0.0086, threat="chip_1"),
        _accuracy("randbet", 9.37, level=0.0275, threat="chip_1"),
        _accuracy("randbet", 6.00, level=0.0014, threat="chip_2"),
        _accuracy("randbet", 9.00, level=0.0108, threat="chip_2"),
    ),
)

ENERGY = Table(
    name="energy",
    title="Memory energy saved at the lowest voltage that costs a point of accuracy",
    source="Stutz et al., MLSys 2021 and TPAMI 2022 (METHODS E.5 and E.6)",
    published=(
        StatedNumber(
            about="energy saved for at most one point",
            variant="randbet",
            threat="random_flips",
            metric="energy_saved",
            value=0.2,
            source="Stutz et al., MLSys 2021, abstract: 8 bits",
            trust="S",
            networks=("simplenet",),
            datasets=("cifar10",),
        ),
    ),
)

ADVERSARIAL_BITS = Table(
    name="adversarial-bits",
    title="Adversarial bit errors, before and after training against them",
    source="Stutz et al., TPAMI 2022; Rakin et al., ICCV 2019 (METHODS E.8)",
    published=(
        _accuracy(
            "advbet",
            26.22,
            level=320.0,
            threat="bit_ascent",
            source="Stutz et al., TPAMI 2022, project page: 320 adversarial bit errors",
        ),
    ),
)

SCALING_FACTORS = Table(
    name="scaling-factors",
    title="Scaling factors: adversarial training, flipped activations, and weight decay",
    source="Fasfous et al., Mind the Scaling Factors, DATE 2022 (METHODS D)",
)

SCALING_REMEDIES = Table(
    name="scaling-remedies",
    title="Scaling factors: clipping, range regularisation and bounds beside weight decay",
    source="after Fasfous et al., DATE 2022 (METHODS D); no paper states these numbers",
)

ADAM_VULNERABILITY = Table(
    name="adam-vulnerability",
    title="Broken multipliers: exact, three copies, approximate, and AdAM under networks",
    source="Taheri et al., AdAM, ETS 2024 (METHODS C); its SDC values are in figures only",
)

HAWX_SEARCH = Table(
    name="hawx-search",
    title="Choices of multipliers by layer at levels of power: all choices measured, and HAWX",
    source="HAWX, arXiv 2602.16336 (METHODS B); its accuracies are not in what could be read",
)

MATRIX = Table(
    name="matrix",
    title="The matrix: every remedy under every threat, and threats at once",
    source="RESQ, RandBET, Mind the Scaling Factors, AdAM, HAWX (METHODS A to E); no paper states "
    "these numbers",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        RESQ_MATRIX,
        MULTIPLIER_SWEEP,
        RANDBET_LADDER,
        PROFILED_CHIPS,
        ENERGY,
        ADVERSARIAL_BITS,
        SCALING_FACTORS,
        SCALING_REMEDIES,
        ADAM_VULNERABILITY,
        HAWX_SEARCH,
        MATRIX,
    )
}
"""All tables, by name."""


def find_table(name: str) -> Table:
    """Return the table of that name.

    Raises:
        UnknownKindError: there is none.

    Example:
        >>> find_table("resq-matrix").source
        'RESQ, arXiv 2603.15413 (METHODS A)'
    """
    if name not in TABLES:
        raise UnknownKindError(f"reproduce: no table {shorten(name)}. {near(name, TABLES)}")
    return TABLES[name]
