"""A stand-in for torchvision, so that timm and vit-pytorch import where it cannot be installed.

Both import names of it at their top (a frozen norm to compare types with, transforms of data
loaders, data sets), of which no model that we build calls any. Every module `torchvision.*` is
empty here, and whatever is imported from it is an empty class. It is used only where torchvision
itself does not import, and only to build models: nothing that is measured runs through it.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


class _Empty(type):
    """Classes whose attributes are names: `InterpolationMode.BILINEAR` must exist."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Empty(name, (), {})
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname.split(".", maxsplit=1)[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""


def stand_in_for_torchvision() -> None:
    """Make `import torchvision` work: the real one, or else the stand-in of this module."""
    try:
        import_module("torchvision.ops")
    except Exception:  # a broken build raises anything
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Finder())
