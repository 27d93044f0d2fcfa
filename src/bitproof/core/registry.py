"""One registry per extension point: component classes filed under their `kind`."""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from bitproof.core.errors import AdapterError, SpecError, UnknownKindError, near, shorten
from bitproof.core.spec import Spec, describe_problems

S = TypeVar("S", bound=Spec)
C = TypeVar("C", bound=type[Any])


class Registry(Generic[S]):
    """The components of one extension point, by kind.

    Third-party packages add kinds through the entry-point group `bitproof.<subpackage>`; an entry
    point is loaded only when its kind is asked for, or when all kinds are listed.

    Example:
        >>> FRUIT: Registry[Spec] = Registry("fruit")
        >>> @FRUIT.register
        ... class Apple(Spec):
        ...     kind: str = "apple"
        ...     weight: int = 1
        >>> FRUIT.build({"kind": "apple", "weight": 2})
        Apple(kind='apple', weight=2)
    """

    def __init__(
        self, subpackage: str, *, shorthand: Callable[[object], object] = lambda table: table
    ) -> None:
        """Begin empty; `shorthand` returns the table that a user's word stands for."""
        self.subpackage = subpackage
        self._shorthand = shorthand
        self._kinds: dict[str, type[S]] = {}
        points = entry_points(group=f"bitproof.{subpackage}")
        self._plugins = {point.name: point for point in points}

    def register(self, component: C) -> C:
        """File a class under the default of its `kind` field; for use as a decorator.

        A class of the same name from the same module takes the place of the one before, so that
        modules can be loaded again.
        """
        kind = component.model_fields["kind"].default
        known = self._kinds.get(kind, component)
        names = {(one.__module__, one.__qualname__) for one in (known, component)}
        assert len(names) == 1, f"{self.subpackage}: kind {kind!r} registered twice"
        self._kinds[kind] = component
        return component

    def kinds(self) -> list[str]:
        """Return all kinds, sorted."""
        return sorted({*self._kinds, *self._plugins})

    def __iter__(self) -> Iterator[type[S]]:
        return (self.find(kind) for kind in self.kinds())

    def find(self, kind: str) -> type[S]:
        """Return the class of `kind`.

        Raises:
            UnknownKindError: there is none; the message names the nearest.
            AdapterError: another package promises the kind, and cannot be loaded.
        """
        if kind not in self._kinds and kind in self._plugins:
            point = self._plugins[kind]
            try:
                self._kinds[kind] = point.load()
            except (ImportError, AttributeError) as error:
                raise AdapterError(
                    f"{self.subpackage}: kind '{kind}' is in {point.value}, "
                    f"which cannot be loaded ({error})"
                ) from error
        if kind not in self._kinds:
            raise UnknownKindError(
                f"{self.subpackage}: no kind {shorten(kind)}. {near(kind, self.kinds())}"
            )
        return self._kinds[kind]

    def build(self, table: object) -> S:
        """Return the component that `table` describes; a component comes back as it is.

        Raises:
            UnknownKindError: `kind` is missing or unknown.
            SpecError: a field is unknown, of the wrong type or out of range.
        """
        table = self._shorthand(table)
        try:
            return self.validate(table)
        except ValidationError as error:
            component = self.find(kind_of(table))
            problems = describe_problems(error, component)
            raise SpecError("; ".join(f"{kind_of(table)}.{text}" for text in problems)) from None

    def validate(self, table: object) -> S:
        """Do the same as a field validator: pydantic adds the path to the errors it collects."""
        if isinstance(table, Spec):
            return table  # type: ignore[return-value]
        table = self._shorthand(table)
        kind = kind_of(table)
        if not kind:
            raise UnknownKindError(
                f"{self.subpackage}: wanted a table with 'kind', got {shorten(table)}. "
                f"Known: {', '.join(self.kinds())}."
            )
        return self.find(kind).model_validate({"kind": kind} if isinstance(table, str) else table)


def kind_of(table: object) -> str:
    """Return the `kind` of a table, or of a bare name; empty where there is none."""
    if isinstance(table, str):
        return table
    kind = table.get("kind", "") if isinstance(table, dict) else ""
    return kind if isinstance(kind, str) else shorten(kind)
