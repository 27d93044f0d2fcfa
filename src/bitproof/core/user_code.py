"""A callable of the user's own, by its name `package.module:callable`: found, and called.

Model:  a module is looked for beside the recipe, in the working directory, then among installed
        packages. What lies in one of the first two hides an installed package of its name while it
        is imported, as beside a script; a `BitproofWarning` says so. A package of its name that was
        loaded before cannot be hidden: that is refused. Modules of another recipe's folder are
        forgotten, once their names mean others. `sys.path` is as before afterwards. This runs the
        user's code, because it was named; nothing else of a user's file is ever executed.
"""

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from bitproof.core.errors import BitproofError, BitproofWarning, near, shorten

NAME = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$"
"""`package.module:callable`, as a field's pattern."""
_LOADED: dict[str, str] = {}
"""Files of the modules that were loaded from the user's folders."""
_FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())


@contextmanager
def looking_in(*folders: Path | None) -> Iterator[None]:
    """Look for the user's modules in these folders first, inside the block; None is none."""
    more = tuple(folder.resolve() for folder in folders if folder is not None)
    token = _FOLDERS.set(tuple(dict.fromkeys((*more, *_FOLDERS.get()))))
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def look_in(folders: tuple[Path, ...]) -> None:
    """Do so from now on, in a process that was started to work for another."""
    _FOLDERS.set(folders)


def folders() -> tuple[Path, ...]:
    """Return the folders that are looked in first; another process may look in the same.

    Example:
        >>> with looking_in(Path("/recipes"), None):
        ...     [str(folder) for folder in folders()]
        ['/recipes']
    """
    return _FOLDERS.get()


def find_callable(
    name: str, *, what: str, problem: type[BitproofError], where: str = ""
) -> Callable[..., Any]:
    """Return the callable that `package.module:callable` names.

    `what` begins each message, such as `factory`; `where` adds where else it was looked for.

    Raises:
        BitproofError: of the kind `problem`: no such module or callable, the module fails, or two
            modules have its name.

    Example:
        >>> from bitproof.core.errors import ModelError
        >>> find_callable("math:floor", what="factory", problem=ModelError)(2.5)
        2
    """
    place, _, path = name.partition(":")
    called = f"{what} {shorten(name)}"
    try:
        module = import_user_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            looked = " or ".join(f"in {folder}" for folder in _places())
            raise problem(
                f"{called}: no module '{error.name}' among the installed packages or {looked}"
                f"{where}"
            ) from error
        raise problem(f"{called}: cannot import {shorten(place)}: {error}") from error
    except ClashError as error:
        raise problem(f"{called}: {error}") from None
    except Exception as error:  # the user's module raised it while it was imported
        raise problem(f"{called}: {last_place(error)}") from error
    if not hasattr(module, path):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise problem(f"{called}: no {shorten(path)} in {shorten(place)}. {near(path, known)}")
    found: Callable[..., Any] = getattr(module, path)
    if not callable(found):
        raise problem(f"{called}: wanted a callable, got {type(found).__name__} {shorten(path)}")
    return found


def call(
    function: Callable[..., Any],
    offered: Mapping[str, Any],
    *,
    name: str,
    what: str,
    problem: type[BitproofError],
) -> Any:
    """Return what the user's callable gives for those of the `offered` keywords that it names.

    Raises:
        BitproofError: of the kind `problem`: it wants others, or raises something itself; then
            the line of its code is named.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have none
        signature = inspect.Signature()
    wanted = {key: value for key, value in offered.items() if key in signature.parameters}
    try:
        signature.bind(**wanted)
    except TypeError as error:
        raise problem(
            f"{what} {shorten(name)}: wanted no argument besides {', '.join(offered)}; {error}"
        ) from None
    with _on_path():
        try:
            return function(**wanted)
        except BitproofError:
            raise
        except Exception as error:  # the user's callable raised it
            raise problem(f"{what} {shorten(name)}: {last_place(error)}") from error


def import_user_module(name: str) -> ModuleType:
    """Return a module of the user's, or an installed one.

    Raises:
        ModuleNotFoundError: there is none.
        ClashError: another module of that name was loaded from elsewhere.
    """
    mine = _mine(name)
    if mine is None or name == "__main__":
        if (known := sys.modules.get(name)) is not None:
            return known
        with _on_path():
            return import_module(name)
    if name in _LOADED and _LOADED[name] != mine:
        _forget_others()
    loaded = sys.modules.get(name)
    if loaded is not None:
        theirs = getattr(loaded, "__file__", None) or "built into Python"
        if not _same(mine, theirs):
            raise ClashError(
                f"wanted one module {shorten(name)}, got two: {mine}, and {theirs}, which was "
                "loaded before; give yours another name"
            )
        return loaded
    _forget_others()
    others = [each for each in sys.path if Path(each).resolve() not in _places()]
    if (hidden := _file_in(name, others)) is not None:
        warnings.warn(
            BitproofWarning(f"module '{name}': takes {mine}, which hides {hidden}"), stacklevel=2
        )
    with _on_path():
        return import_module(name)


def last_place(error: Exception) -> str:
    """Return what went wrong in the user's code, and in which line of which file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {message}{where}"


class ClashError(ImportError):
    """Two modules have one name, and the wrong one was loaded before."""


def _places() -> tuple[Path, ...]:
    here: list[Path] = []
    with suppress(FileNotFoundError):  # somebody may have deleted the working directory
        here.append(Path.cwd())
    return tuple(dict.fromkeys((*_FOLDERS.get(), *here)))


def _mine(name: str) -> str | None:
    """Return the file of a module in the user's folders."""
    found = (_file_in(name, [str(folder)]) for folder in _places())
    return next(filter(None, found), None)


def _forget_others() -> None:
    """Forget modules that were loaded from other folders, where their names mean others now."""
    invalidate_caches()
    for name in [name for name, file in _LOADED.items() if _mine(name) != file]:
        sys.modules.pop(name, None)
        del _LOADED[name]


@contextmanager
def _on_path() -> Iterator[None]:
    """Let imports see the user's folders first, as they see that of a script."""
    added, before = [str(folder) for folder in _places()], set(sys.modules)
    sys.path[:0] = added
    invalidate_caches()
    try:
        yield
    finally:
        for name in sys.modules.keys() - before:
            file = getattr(sys.modules[name], "__file__", None)
            near_by = file is not None and any(map(Path(file).is_relative_to, _places()))
            if file is not None and near_by and _mine(name) == file:
                _LOADED[name] = file
        for place in added:
            with suppress(ValueError):
                sys.path.remove(place)


def _file_in(name: str, path: list[str]) -> str | None:
    """Return the file of a module in one of these folders, without running anything."""
    found: str | None = None
    places: list[str] | None = path
    parts = name.split(".")
    for number in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: number + 1]), places)
        if spec is None:
            return None
        found = spec.origin
        locations = spec.submodule_search_locations
        places = None if locations is None else list(locations)
        if places is None and number < len(parts) - 1:
            return None
    return found


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
