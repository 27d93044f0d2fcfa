"""The threats of a matrix where no recipe lists them: two lists, for whatever a data set is.

`default` needs no optional package, `full` those of the extras `autoattack` and `circuits`; it has
more chips, more draws, AutoAttack, and faults in gates beside those in registers. What a data set
or its task rules out (attacks on tokens, bit searches in regression) is left out, and said.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bitproof.approx import Arithmetic
from bitproof.approx.naming import multiplier_of
from bitproof.attacks.apgd import LEAST_CLASSES
from bitproof.core.errors import BitproofError, DataError, SpecError
from bitproof.core.files import read_bytes
from bitproof.core.spec import describe_problems
from bitproof.data import Dataset
from bitproof.evaluation import THREATS, Evaluation, Threat
from bitproof.explore.directory import ExplorationDirectory

ThreatList = Literal["default", "full"]
LISTS: tuple[ThreatList, ...] = ("default", "full")


def read_choice(place: Path) -> Arithmetic:
    """Return the multipliers that a finished search has chosen.

    Args:
        place: the directory of the search, or its `chosen.json`.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = ExplorationDirectory(place).chosen if place.is_dir() else place
    if not path.is_file():
        raise DataError(f"{path}: wanted the choice of a finished search (bitproof explore)")
    try:
        return Arithmetic.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise DataError(f"{path}: {'; '.join(describe_problems(error, Arithmetic))}") from None


def losses_for(classes: int) -> list[str]:
    """Return the losses of APGD that so many classes allow.

    Example:
        >>> losses_for(10), losses_for(2)
        (['cross_entropy', 'targeted'], ['cross_entropy'])
    """
    if classes >= LEAST_CLASSES["targeted"]:
        return ["cross_entropy", "targeted"]
    return ["cross_entropy", "dlr"] if classes >= LEAST_CLASSES["dlr"] else ["cross_entropy"]


@dataclass(frozen=True)
class MatrixThreats:
    """What the threats of a matrix are made of.

    Example:
        >>> len(MatrixThreats().tables()), len(MatrixThreats(which="full").tables())
        (15, 17)
    """

    which: ThreatList = "default"
    bers: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    """Bit error rates, as fractions, rising."""
    epsilon: float = 2 / 255
    """Largest radius of attacks on inputs, input units; half of it is the other."""
    images: int = 500
    """Test images under faults, the first ones; attacks see fewer."""
    chips: int = 10
    """Chips, or draws of a tenth; `full` has twice as many."""
    multiplier: str = "drum:width=5,signed=true"
    """The approximate multiplier, as `bitproof multipliers` writes it."""
    choice: Arithmetic | None = None
    """Multipliers by layer, as a search chose them for this architecture; None: no such threat."""
    seed: int = 0

    def evaluation(self, data: Dataset) -> tuple[Evaluation, list[str]]:
        """Return what is measured on a data set, and one line for each threat that is left out.

        Raises:
            SpecError: a setting is out of range.
        """
        kept: list[Threat] = []
        left: list[str] = []
        for table in self.tables(data.n_classes):
            threat = THREATS.build(table)
            try:
                threat.check(data)
                threat.tasks(data)
            except BitproofError as error:
                left.append(f"left out: {error}")
            else:
                kept.append(threat)
        return Evaluation(threats=tuple(kept), seed=self.seed), left

    def tables(self, classes: int = 10) -> list[dict[str, Any]]:
        """Return the threats as tables of a recipe, for so many classes.

        Raises:
            SpecError: a setting is out of range.
        """
        if self.epsilon <= 0 or self.images < 1 or self.chips < 1 or not self.bers:
            raise SpecError("matrix: wanted bit error rates, a radius, images and chips above 0")
        full = self.which == "full"
        chips = 2 * self.chips if full else self.chips
        attacked = min(self.images, 200 if full else 100)
        radii = [self.epsilon / 2, self.epsilon]
        flips = {"kind": "memory_faults", "levels": list(self.bers), "chips": chips}
        flips["images"] = self.images
        middle = self.bers[len(self.bers) // 2]
        adaptive = {"kind": "linf_apgd", "epsilon": self.epsilon, "losses": losses_for(classes)}
        enough = classes >= LEAST_CLASSES["targeted"]
        strongest = {"kind": "autoattack", "epsilon": self.epsilon} if full and enough else adaptive
        attack = {"kind": "adversarial_examples", "levels": radii, "images": attacked}
        draws = {"trials": 10 * chips, "images": min(self.images, 64)}
        registers = [
            {"kind": "register_faults", "faults": faults, **draws}
            for faults in ("transient", "permanent")
        ]
        gates = [
            {"kind": "multiplier_faults", "faults": faults, **draws}
            for faults in ("transient", "permanent")
        ]
        # Five batches and chips are what pairs need.
        bits = {"kind": "adversarial_bit_errors", "images": self.images, "batches": 5}
        bits["attack_images"] = 64
        search = {"kind": "progressive_bit_search"}
        ascent = {"kind": "bit_ascent", "iterations": 30, "layers": ["all"]}
        multiplier = multiplier_of(self.multiplier).model_dump(mode="json")
        there = {"kind": "on_multiplier", "multiplier": multiplier}
        chosen = {} if self.choice is None else self.choice.model_dump(mode="json")
        crossed = {**attack, "attack": {**adaptive, "losses": ["cross_entropy"], "restarts": 2}}
        return [
            {"kind": "clean", "images": None},
            {**flips, "name": "random_flips"},
            {**flips, "name": "activation_flips", "sites": ["activation"]},
            {**flips, "name": "flips_everywhere", "sites": ["weight", "bias", "activation"]},
            {**flips, "name": "profiled_chip", "fault": {"kind": "simulated_sram", "ber": 1e-3}},
            *registers,
            *(gates if full else []),
            {**bits, "attack": search, "levels": [5.0, 10.0, 20.0]},
            {**bits, "attack": ascent, "levels": [20.0, 80.0]},
            {**attack, "attack": {"kind": "linf_pgd", "epsilon": self.epsilon, "steps": 20}},
            {**attack, "attack": strongest},
            {**there, "name": "one_multiplier", "threat": {"kind": "clean", "images": None}},
            *(
                [{"kind": "on_multiplier", "name": "chosen_multipliers", **chosen}]
                if chosen
                else []
            ),
            {**there, "name": "flips_on_multiplier", "threat": flips},
            {**there, "name": "attack_on_multiplier", "threat": crossed},
            {
                "kind": "attack_on_faulty_chip",
                "fault": {"kind": "random_flips", "ber": middle},
                "attack": crossed["attack"],
                "levels": radii,
                "chips": 5,
                "images": attacked,
            },
        ]
