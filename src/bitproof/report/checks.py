"""Which checks of a run were made, as far as its recipe and its files tell, and which were not.

A check that could not be made must not read as one that found nothing.
"""

from bitproof.report.run import FLOAT, Run

ATTACKED = "adversarial_examples"
BLACK_BOX = "black_box_check"
FLIPPED = "adversarial_bit_errors"


def checks(run: Run) -> tuple[list[str], list[str]]:
    """Return the checks that were made on this run, and those that were not, by their reason.

    Both are empty where there is no recipe to tell.
    """
    if not run.threat_tables:
        return [], []
    kinds = [str(one.get("kind")) for one in run.threat_tables]
    made: list[str] = []
    unmade: dict[str, list[str]] = {}

    def tell(check: str, missing: str) -> None:
        if missing:
            unmade.setdefault(missing, []).append(check)
        else:
            made.append(check)

    integers = [name for name in run.variants if name != FLOAT]
    known = [run.statistics.get(name) for name in integers]
    compared = any(isinstance(one, dict) and one.get("fidelity") for one in known)
    why = "no integer network in this run" if not integers else "not recorded"
    tell("integers compared with floats", "" if compared else why)

    attacks = [one for one in run.threat_tables if one.get("kind") == ATTACKED]
    none = "" if attacks else "no attack on inputs in the recipe"
    radii = [levels for one in attacks if isinstance(levels := one.get("levels"), list)]
    huge = "" if any(radii) or not attacks else "the attacks have no radius"
    tell("attacks bring accuracy to chance at a huge radius", none or huge)
    several = any(len(levels) > 1 for levels in radii)
    tell(
        "accuracy falls as the radius grows",
        none or ("" if several else "attacks have one radius"),
    )
    tell(
        "an attack without gradients is not the stronger one",
        none or ("" if BLACK_BOX in kinds else f"no {BLACK_BOX} in the recipe"),
    )
    if FLIPPED in kinds:
        tell("accuracy falls as more chosen bits are flipped", "")
    return made, [f"{'; '.join(each)} ({reason})" for reason, each in unmade.items()]


def checks_line(run: Run) -> str:
    """Return what was checked, what was not and why, and that nothing was found if so."""
    warnings = run.facts.warnings
    if warnings is None:
        return "Warnings of the checks (gradient masking and others): not recorded."
    so_far = "" if run.facts.finished else " so far"
    made, unmade = checks(run)
    if not made and not unmade:
        which = "which checks ran is not recorded"
        return f"No warning{so_far}; {which}." if not warnings else f"{which.capitalize()}."
    found = "they raised no warning" + so_far if not warnings else "their warnings stand above"
    ran = f"Checks that ran: {'; '.join(made)} – {found}." if made else "No check ran."
    return ran + (f" Not checked: {'; '.join(unmade)}." if unmade else "")
