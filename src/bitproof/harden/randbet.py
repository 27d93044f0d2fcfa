"""Random bit error training: every step also sees the network with fresh random bit errors.

Source: Stutz et al., RandBET, MLSys 2021; METHODS E.3. Several rates in a step: Buldu et al., MBET,
        AITest 2022, METHODS F (its weights are not known; here rates weigh the same).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.core.types import Positive, Seed
from bitproof.faults import AnyFault, RandomFlips, faulty_codes
from bitproof.harden.base import HARDEN
from bitproof.harden.bit_error_training import BitErrorTraining
from bitproof.harden.quantization_aware import QuantizedTraining, Words
from bitproof.quant.grid import CodedTensor
from bitproof.train.batches import Batch


@HARDEN.register
class RandBET(BitErrorTraining):
    """Train with random bit errors in every stored parameter.

    Example:
        >>> RandBET(rates=(0.01,), ramp=0.5).levels_at(0.25)
        (0.005,)
    """

    kind: Literal["randbet"] = "randbet"
    fault: AnyFault = RandomFlips(ber=0.01)
    """What breaks; its level is each of `rates`."""
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Levels of the fault, of random flips bit error rates, as fractions; several at once: MBET.
    None: the level that the fault has."""
    bits: Literal["all", "msb", "lsb"] = "all"
    """Let errors reach every bit, or only the most or the least significant one of each word."""
    chip: Seed | None = None
    """Train on the cells of this one chip, numbered as in an evaluation of seed 0; None: new cells
    in every step."""

    @model_validator(mode="after")
    def _check_rates(self) -> "RandBET":
        for rate in self.levels():
            self.fault.at(rate)
        if self.ramp:
            try:
                self.fault.at(0.0)
            except SpecError:
                level = self.fault.level
                raise ValueError(
                    f"ramp: wanted 0 for {self.fault.kind}, whose {level} cannot rise from 0"
                ) from None
        return self

    def levels(self) -> tuple[float, ...]:
        """Return the rates."""
        return self.rates or (float(getattr(self.fault, self.fault.level)),)

    def inject(
        self,
        training: QuantizedTraining,  # noqa: ARG002
        words: Words,
        batch: Batch,
        *,
        level: float,
    ) -> dict[str, Tensor]:
        """Return codes with random errors at one rate."""
        generator = batch.generator
        if self.chip is not None:
            generator = make_generator(0, "chip", self.chip)
        held = words.stored.memory(words.codes)
        faulty = faulty_codes(held, self.fault.at(level), generator=generator)
        if self.bits == "all":
            return faulty
        return {name: _only(self.bits, own, faulty[name]) for name, own in words.codes.items()}


def _only(bits: Literal["msb", "lsb"], own: CodedTensor, faulty: Tensor) -> Tensor:
    """Return the words with the errors in one bit alone; signed ones stay sign-extended."""
    top = 1 << (own.grid.bits - 1)
    # A changed sign bit changes all the bits above it.
    mask = 1 if bits == "lsb" else (-top if own.grid.signed else top)
    return own.codes ^ ((own.codes ^ faulty) & mask)
