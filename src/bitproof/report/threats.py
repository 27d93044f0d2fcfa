"""What a threat is called and how its level is written, for names known and unknown."""

import math
import re
from typing import Literal

Family = Literal["fault", "attack", "other"]

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
METHODS = {
    "autoattack": "AutoAttack",
    "pgd": "PGD",
    "apgd": "APGD",
    "fgsm": "FGSM",
    "square": "Square",
    "noise": "noise",
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def family(threat: str) -> Family:
    """Return whether `threat` corrupts stored bits or inputs, judged by its name.

    Example:
        >>> family("random_flips"), family("l2_pgd"), family("heat")
        ('fault', 'attack', 'other')
    """
    if threat.endswith("flips") or threat.startswith("stuck_at"):
        return "fault"
    words = threat.split("_")
    return "attack" if words[0] in NORMS or words[0] in METHODS else "other"


def title(threat: str) -> str:
    """Return the name of `threat` for people.

    Example:
        >>> title("linf_pgd"), title("random_flips"), title("fgsm")
        ('L∞ PGD', 'Random bit flips', 'FGSM')
    """
    if threat == "random_flips":
        return "Random bit flips"
    if family(threat) != "attack":
        return threat.replace("_", " ")
    return " ".join(NORMS.get(word, METHODS.get(word, word)) for word in threat.split("_"))


def symbol(threat: str) -> str:
    """Return what the level of `threat` is called."""
    return {"fault": "BER", "attack": "ε", "other": "level"}[family(threat)]


def level_text(threat: str, level: float) -> str:
    """Return a level in plain characters; steps of 1/255 as such where that is shorter.

    Example:
        >>> level_text("random_flips", 5e-4), level_text("linf_pgd", 8 / 255)
        ('5e-4', '8/255')
        >>> level_text("linf_pgd", 0.3), level_text("l2_pgd", 0.0)
        ('0.3', '0')
    """
    if level == 0:
        return "0"
    if family(threat) == "fault" or level < 1e-3:
        mantissa, exponent = f"{level:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    steps = round(level * 255)
    if math.isclose(level * 255, steps, rel_tol=1e-6) and f"{level:.3g}" != f"{level:.8g}":
        return f"{steps}/255"
    return f"{level:.3g}"


def pretty_level(threat: str, level: float) -> str:
    """Return a level for the page, with powers of ten written as such.

    Example:
        >>> pretty_level("random_flips", 5e-4), pretty_level("random_flips", 1e-3)
        ('5×10⁻⁴', '10⁻³')
    """

    def power(match: re.Match[str]) -> str:
        factor = "" if match[1] == "1" else f"{match[1]}×"
        return f"{factor}10{match[2].translate(SUPERSCRIPTS)}"

    return re.sub(r"^([\d.]+)e(-?\d+)$", power, level_text(threat, level))


def condition(threat: str, level: float) -> str:
    """Return threat and level in words.

    Example:
        >>> condition("linf_pgd", 8 / 255)
        'L∞ PGD at ε = 8/255'
    """
    return f"{title(threat)} at {symbol(threat)} = {pretty_level(threat, level)}"
