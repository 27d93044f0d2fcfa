"""Constrained numbers that specs use as field types. Text and truth values are no numbers.

Every one has two ends, so that a slip of the finger is refused before it fills the memory, or
keeps a machine busy for ever. A field for which these ends are too far apart has its own.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

LEAST, MOST = 1e-30, 1e15
"""Ends of numbers. Float32 goes from 1e-38 to 3e38: the product of two numbers of this size is in
there, and so is the step of a grid of words of 8 bits."""


def _check_tiny(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"wanted at least {LEAST:g}, got {value:g}")
    return value


Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, strict=True), AfterValidator(_check_tiny)]
Share = Annotated[float, Field(gt=0.0, lt=1.0, strict=True)]
Confidence = Annotated[float, Field(ge=1e-3, le=1 - 1e-9, strict=True)]
"""Beyond these, quantiles are no longer exact."""
Positive = Annotated[
    float, Field(gt=0.0, le=MOST, allow_inf_nan=False, strict=True), AfterValidator(_check_tiny)
]
NonNegative = Annotated[float, Field(ge=0.0, le=MOST, allow_inf_nan=False, strict=True)]
Finite = Annotated[float, Field(ge=-MOST, le=MOST, allow_inf_nan=False, strict=True)]
LearningRate = Annotated[
    float, Field(gt=0.0, le=1e6, allow_inf_nan=False, strict=True), AfterValidator(_check_tiny)
]
"""Optimizers multiply it by weights and decay, and divide it by small numbers."""
Count = Annotated[int, Field(ge=1, le=10**9, strict=True)]
"""Things that lie in memory: of 10^9, a byte each fits, and 32 bits number them."""
Rounds = Annotated[int, Field(ge=1, le=10**6, strict=True)]
"""Things done one after the other: at half a minute each, 10^6 take a year."""
BatchSize = Annotated[int, Field(ge=1, le=2**16, strict=True)]
"""Images that a network computes on at once, with all maps between its layers."""
Index = Annotated[int, Field(ge=0, le=10**9, strict=True)]
"""Which of the things that lie in memory; or how many, where there may be none."""
Bits = Annotated[int, Field(ge=2, le=8, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
"""What every generator takes."""
Workers = Annotated[int, Field(ge=1, le=1024, strict=True)]
"""Processes or threads: more than that, no machine has cores for."""
