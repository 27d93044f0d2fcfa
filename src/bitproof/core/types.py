"""Constrained numbers that specs use as field types. Text and truth values are no numbers."""

from typing import Annotated

from pydantic import Field

Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Index = Annotated[int, Field(ge=0, strict=True)]
Bits = Annotated[int, Field(ge=2, le=8, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
