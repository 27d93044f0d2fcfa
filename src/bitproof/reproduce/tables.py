"""The published tables that we aim at, and the numbers that their papers state.

The cells of a table are not listed here: they follow from the recipes of its jobs, see `jobs`.
Values and marks of trust are those of docs/methods.md: S is stated by the authors.
"""

from dataclasses import dataclass

from bitproof.core.errors import UnknownKindError, near


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

    def covers(self, network: str, dataset: str) -> bool:
        """Return whether the paper measured this network on this data set."""
        return network in self.networks and dataset in self.datasets

    def fits(self, variant: str, threat: str, metric: str) -> bool:
        """Return whether it stands against such a cell."""
        return (self.variant, self.threat, self.metric) == (variant, threat, metric)


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
        self, variant: str, threat: str, metric: str, *, network: str, dataset: str
    ) -> StatedNumber | None:
        """Return the published number that stands against such a cell."""
        fitting = (n for n in self.published if n.fits(variant, threat, metric))
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

TABLES: dict[str, Table] = {table.name: table for table in (RESQ_MATRIX, MULTIPLIER_SWEEP)}
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
        raise UnknownKindError(f"reproduce: no table '{name}'. {near(name, TABLES)}")
    return TABLES[name]
