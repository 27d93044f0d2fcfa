"""Telling what work takes before it begins; more than a day of it has to be asked for."""

from collections.abc import Callable

from bitproof.cli.outcome import leave
from bitproof.core.errors import BitproofError
from bitproof.core.progress import Progress
from bitproof.recipe.estimate import DAY, Estimate

SHORT_S = 60.0
"""Seconds below which nothing is said."""


def tell_work(estimate: Callable[[], Estimate], watch: Progress, *, yes: bool) -> None:
    """Say what work takes, unless that is short; leave if it takes over a day without `yes`."""
    try:
        found = estimate()
    except BitproofError:
        return  # the work itself will tell what is wrong
    if found.seconds > DAY and not yes:
        leave(f"{found}; go on with --yes", 2)
    if found.seconds >= SHORT_S:
        watch.say(str(found))
