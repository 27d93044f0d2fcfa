"""What a threat is, and how it and its levels are written: the same on the console and on a page.

A threat says this of itself where it is measured (`bitproof.evaluation`); a run keeps it in
`run.json`, so that a reader of results never guesses from a name.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

Family = Literal[
    "none",
    "memory_fault",
    "compute_fault",
    "input_attack",
    "bit_flip_attack",
    "hardware",
    "crossing",
]
"""What a threat changes: nothing, stored bits, arithmetic, inputs, chosen bits, the multiplier; or
several of them at once."""
FAMILIES: tuple[Family, ...] = get_args(Family)
Notation = Literal["plain", "scientific", "pixels"]
"""How levels are written: 0.3, 3e-1, or as multiples of 1/255 where they are."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class ThreatLabel:
    """How people read a threat.

    Example:
        >>> flips = ThreatLabel("memory_fault", "Random bit flips", "BER", "scientific")
        >>> flips.level_text(5e-4), flips.pretty_level(1e-3), flips.at(5e-4)
        ('5e-4', '10⁻³', 'Random bit flips at BER = 5×10⁻⁴')
    """

    family: Family = "none"
    title: str = ""
    symbol: str = "level"
    """What a level is called."""
    notation: Notation = "plain"
    unit: str = "image"
    """What one trial more or less is: an image, a chip, a draw, a batch."""

    @property
    def logarithmic(self) -> bool:
        """Whether levels are spread over decades."""
        return self.notation == "scientific"

    def level_text(self, level: float) -> str:
        """Return a level in plain characters.

        Example:
            >>> pgd = ThreatLabel("input_attack", "L∞ PGD", "ε", "pixels")
            >>> pgd.level_text(8 / 255), pgd.level_text(0.3), pgd.level_text(0.0)
            ('8/255', '0.3', '0')
        """
        if level == 0:
            return "0"
        if self.notation == "scientific" or level < 1e-3:
            mantissa, exponent = f"{level:.2e}".split("e")
            return f"{float(mantissa):g}e{int(exponent)}"
        steps = round(level * 255)
        exact = math.isclose(level * 255, steps, rel_tol=1e-6)
        if self.notation == "pixels" and exact and f"{level:.3g}" != f"{level:.8g}":
            return f"{steps}/255"
        return f"{level:.3g}"

    def pretty_level(self, level: float) -> str:
        """Return a level for a page, with powers of ten written as such."""

        def power(match: re.Match[str]) -> str:
            factor = "" if match[1] == "1" else f"{match[1]}×"
            return f"{factor}10{match[2].translate(SUPERSCRIPTS)}"

        return re.sub(r"^([\d.]+)e(-?\d+)$", power, self.level_text(level))

    def at(self, level: float) -> str:
        """Return threat and level in words."""
        return f"{self.title} at {self.symbol} = {self.pretty_level(level)}"
