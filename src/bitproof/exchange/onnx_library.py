"""The optional packages onnx and onnxruntime, imported where they are used."""

from importlib import import_module
from types import ModuleType

from bitproof.core.errors import AdapterError


def onnx_library() -> ModuleType:
    """Return the package onnx, its submodules `checker`, `helper` and `numpy_helper` loaded.

    Raises:
        AdapterError: it is not installed.

    Example:
        >>> onnx_library().__name__  # doctest: +SKIP
        'onnx'
    """
    onnx = _package("onnx")
    for name in ("checker", "helper", "numpy_helper"):
        import_module(f"onnx.{name}")
    return onnx


def onnx_runtime() -> ModuleType:
    """Return the package onnxruntime.

    Raises:
        AdapterError: it is not installed.

    Example:
        >>> onnx_runtime().__name__  # doctest: +SKIP
        'onnxruntime'
    """
    return _package("onnxruntime")


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise AdapterError(
            f"onnx: wanted the package {name} (pip install 'bitproof[onnx]')"
        ) from None
