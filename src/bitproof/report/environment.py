"""How templates are read: everything escaped, nothing undefined passed over."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined


def make_environment(**filters: Callable[..., str]) -> Environment:
    """Return the environment of the room's templates, with the filters that a page needs."""
    environment = Environment(
        loader=PackageLoader("bitproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment
