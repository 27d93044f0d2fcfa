"""What is measured on every network: a list of threats, and the root of whatever is drawn.

Source: METHODS A.3 (metrics), E.4 and G.
"""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator

from bitproof.core.errors import shorten
from bitproof.core.passes import Passes
from bitproof.core.progress import SILENT, Progress
from bitproof.core.spec import Spec, canonical_json
from bitproof.core.stop_request import StopRequest
from bitproof.core.types import Seed
from bitproof.data.dataset import Dataset
from bitproof.evaluation.adversarial_examples import AdversarialExamples, BlackBoxCheck
from bitproof.evaluation.executors import Executor, InProcess, Pool
from bitproof.evaluation.memory_faults import MemoryFaults
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.store import TallyStore
from bitproof.evaluation.threat import AnyThreat, Clean, Counts, Measurement, Threat, first
from bitproof.metrics import Tally
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

Models = Callable[[str], EvaluatedModel]
"""Returns the network of a name; it can be sent to another process."""
DEFAULT: tuple[Threat, ...] = (Clean(), MemoryFaults(), AdversarialExamples(), BlackBoxCheck())


class Evaluation(Spec):
    """What is measured on every network.

    Example:
        >>> [threat.title for threat in Evaluation().threats]
        ['clean', 'random_flips', 'linf_pgd', 'black_box_check']
    """

    threats: Annotated[tuple[AnyThreat, ...], Field(max_length=100)] = DEFAULT
    """What networks have to stand; results come in this order."""
    seed: Seed = 0
    """Root of chips and of random starts."""

    @field_validator("threats")
    @classmethod
    def _check_threats(cls, threats: tuple[Threat, ...]) -> tuple[Threat, ...]:
        if not threats:
            raise ValueError("wanted at least one threat, got none")
        titles = [threat.title for threat in threats]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(
                    f"wanted a 'name' for each of several threats called {shorten(title)}"
                )
        return tuple(_fitted(threat, threats) for threat in threats)

    def labels(self) -> dict[str, ThreatLabel]:
        """Return how each threat is written, by the name in results."""
        return {threat.title: threat.label for threat in self.threats}

    def measurements(self, data: Dataset) -> list[Measurement]:
        """Return all measurements on one network, in order.

        Raises:
            BitproofError: a threat cannot be measured on such data, or its task.
        """
        for threat in self.threats:
            threat.check(data)
        return [
            Measurement(number, level, trial)
            for number, threat in enumerate(self.threats)
            for level, trial in threat.tasks(data)
        ]

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return what all measurements on one network take; see `Threat.passes`."""
        return sum((one.passes(images, layers=layers) for one in self.threats), Passes())

    def references(self, data: Dataset) -> tuple[Clean, ...]:
        """Return clean counts on the images of threats that take only some of the clean ones.

        They stand beside accuracies under those threats, enter no row of results, and are made
        where clean accuracy was asked for.
        """
        known = {len(first(data, one.images)) for one in self.threats if isinstance(one, Clean)}
        sizes = {one.first_images(data) for one in self.threats if one.kind != "clean"}
        wanted = sizes - known - {None} if known else set()
        return tuple(Clean(images=size) for size in sorted(filter(None, wanted)))

    def keys(self, digest: str, data: Dataset) -> dict[Measurement, str]:
        """Return what the count of each measurement on a network of that digest is stored under.

        Those of `references` come last; the number of their threat is beyond those of `threats`.
        """
        images = data.digest()
        every = (*self.threats, *self.references(data))
        fixed = [canonical_json(threat.identity(data)) for threat in every]

        def key(one: Measurement) -> str:
            parts = (digest, images, fixed[one.threat], repr(one.level), one.trial, self.seed)
            return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()

        extra = range(len(self.threats), len(every))
        beside = [Measurement(number, 0.0, 0) for number in extra]
        return {one: key(one) for one in (*self.measurements(data), *beside)}

    def open(
        self, models: Models, data: Dataset, executor: Executor | None = None
    ) -> Pool[tuple[str, Measurement], Tally]:
        """Return a pool that measures networks; it starts with the first measurement.

        `data` lies on the device of the networks; without an `executor`, this process computes.
        """
        executor = executor or InProcess()
        sent = data if isinstance(executor, InProcess) else data.to("cpu")
        device = data.labels.device
        every = (*self.threats, *self.references(data))
        return executor.open(_Measuring(every, self.seed, models, sent, device))

    def measure(
        self,
        variant: str,
        keys: Mapping[Measurement, str],
        *,
        pool: Pool[tuple[str, Measurement], Tally],
        store: TallyStore,
        progress: Progress = SILENT,
        stop: StopRequest | None = None,
    ) -> None:
        """Fill `store` with whatever it lacks of `keys`; `stop` is asked before each measurement.

        Raises:
            StoppedError: asked to stop; what is finished is in the store.
        """
        wanted = {key: one for one, key in keys.items() if store.get(key) is None}
        sizes = Counter(one.threat for one in keys)

        def orders() -> Iterator[tuple[str, Measurement]]:
            # The many short ones come last, so that no worker is idle at the end.
            for one in sorted(wanted.values(), key=lambda one: sizes[one.threat]):
                if stop:
                    stop.check()
                yield variant, one

        found = pool.run(orders())
        for (_, one), tally in progress.track(
            found, label=f"evaluate {variant}", total=len(wanted)
        ):
            names: dict[str, Any] = {"variant": variant, "threat": "clean"}
            names |= {"level": one.level, "trial": one.trial}
            if one.threat < len(self.threats):
                names["threat"] = self.threats[one.threat].title
            else:
                names["reference"] = True
            store.add(keys[one], tally, **names)

    def counts(
        self, keys: Mapping[Measurement, str], store: TallyStore
    ) -> dict[str, Counts] | None:
        """Return the counts of a network by threat, level and trial; None while one is missing.

        Those of `references` are not among them, nor waited for.
        """
        titles = [threat.title for threat in self.threats]
        found: dict[str, dict[float, list[Tally]]] = {title: defaultdict(list) for title in titles}
        for one, key in keys.items():
            if one.threat >= len(self.threats):
                continue
            tally = store.get(key)
            if tally is None:
                return None
            found[titles[one.threat]][one.level].append(tally)
        return {title: dict(levels) for title, levels in found.items()}

    def rows(self, variant: str, counts: Mapping[str, Counts]) -> list[Row]:
        """Return the rows of `results.csv` for one network."""
        return [
            replace(row, variant=variant)
            for threat in self.threats
            for row in threat.rows(counts[threat.title])
        ]

    def warnings(self, variant: str, counts: Mapping[str, Counts], data: Dataset) -> list[str]:
        """Return what makes the counts of one network doubtful."""
        return [
            f"{variant}: {text}"
            for threat in self.threats
            for text in threat.warnings(counts[threat.title], counts, data)
        ]


@dataclass(frozen=True)
class _Measuring:
    """Measurements of an evaluation on networks that are named."""

    threats: tuple[Threat, ...]
    seed: int
    models: Models
    data: Dataset
    device: torch.device
    """Where the networks of `models` lie."""

    def start(self) -> Callable[[tuple[str, Measurement]], Tally]:
        """Return a function that measures; it keeps the network that it measured last."""
        data = self.data.to(self.device)
        last: dict[str, EvaluatedModel] = {}

        def measure(order: tuple[str, Measurement]) -> Tally:
            variant, one = order
            if variant not in last:
                last.clear()
                last[variant] = self.models(variant)
            start = time.perf_counter()
            found = self.threats[one.threat].measure(
                last[variant], data, level=one.level, trial=one.trial, seed=self.seed
            )
            return replace(found, seconds=time.perf_counter() - start)

        return measure


def _fitted(threat: Threat, threats: tuple[Threat, ...]) -> Threat:
    """Return a threat; a black-box check takes radii and images of the attack that it checks."""
    if not isinstance(threat, BlackBoxCheck):
        return threat
    checked = next((one for one in threats if one.title == threat.against), None)
    if not isinstance(checked, AdversarialExamples) or checked.attack.ball != "Linf":
        raise ValueError(
            f"black_box_check: wanted adversarial examples in the L-infinity ball as 'against', "
            f"got {shorten(threat.against)}"
        )
    levels = threat.levels or checked.levels
    if not set(levels) <= set(checked.levels):
        raise ValueError(
            f"black_box_check: wanted some of the levels {list(checked.levels)}, got {list(levels)}"
        )
    return threat.model_copy(update={"levels": levels, "images": checked.images})
