"""A network of the user's own, by the name of the Python callable that makes it.

This runs the user's code, because the user asked for it. Weights never run anything: see
`checkpoint`.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from bitproof.core.errors import ModelError, near, shorten
from bitproof.models.base import MODELS, ModelSpec


@MODELS.register
class Factory(ModelSpec):
    """Call `package.module:callable`; it takes images in [0, 1] and normalises them itself.

    The callable gets those of `in_channels`, `image_size` and `n_classes` that its signature
    names, as keywords. A digest covers the name of the callable, not the code behind it.

    Example:
        >>> import torch
        >>> spec = Factory(factory="torch.nn:Flatten")
        >>> spec.build(in_channels=1, image_size=8, n_classes=2, generator=torch.Generator())
        Flatten(start_dim=1, end_dim=-1)
    """

    kind: Literal["factory"] = "factory"
    factory: Annotated[str, Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$")]
    """`package.module:callable`, importable from here or from the working directory."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return what the callable makes; the user's own errors come as a `ModelError`."""
        sizes = {"in_channels": in_channels, "image_size": image_size, "n_classes": n_classes}
        with _working_directory_on_path():
            make = _find_callable(self.factory)
            wanted = _wanted_of(make, sizes, self.factory)
            try:
                network = make(**wanted)
            except Exception as error:  # the user's callable raised it
                raise ModelError(
                    f"factory {shorten(self.factory)}: {_last_place(error)}"
                ) from error
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"factory {shorten(self.factory)}: wanted it to return a torch.nn.Module, "
                f"got {type(network).__name__}"
            )
        return network


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """Let imports see the working directory first, as `python -m` does."""
    place = str(Path.cwd())
    sys.path.insert(0, place)
    invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(place)


def _find_callable(factory: str) -> Callable[..., Any]:
    """Return the callable that `package.module:callable` names."""
    place, name = factory.split(":")
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise ModelError(
                f"factory {shorten(factory)}: no module '{error.name}' among the installed "
                f"packages or in {Path.cwd()}"
            ) from error
        raise ModelError(
            f"factory {shorten(factory)}: cannot import {shorten(place)}: {error}"
        ) from error
    except Exception as error:  # the user's module raised it while it was imported
        raise ModelError(f"factory {shorten(factory)}: {_last_place(error)}") from error
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise ModelError(
            f"factory {shorten(factory)}: no {shorten(name)} in {shorten(place)}. "
            f"{near(name, known)}"
        )
    make: Callable[..., Any] = getattr(module, name)
    if not callable(make):
        raise ModelError(
            f"factory {shorten(factory)}: wanted a callable, "
            f"got {type(make).__name__} {shorten(name)}"
        )
    return make


def _last_place(error: Exception) -> str:
    """Return what went wrong in the user's code, and in which line of which file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {message}{where}"


def _wanted_of(make: Callable[..., Any], sizes: dict[str, int], factory: str) -> dict[str, int]:
    """Return the sizes that the signature of `make` names."""
    signature = inspect.signature(make)
    wanted = {name: size for name, size in sizes.items() if name in signature.parameters}
    try:
        signature.bind(**wanted)
    except TypeError as error:
        raise ModelError(
            f"factory {shorten(factory)}: wanted no argument besides {', '.join(sizes)}; {error}"
        ) from None
    return wanted
