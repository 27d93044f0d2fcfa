"""What stands in for the Python objects that training scripts put beside weights.

Model:  arguments of a script, hyper parameters, numpy numbers, dates and paths are no weights.
        PyTorch would refuse the file for them, or ask to trust the classes. Here nothing of those
        classes is called: whatever their pickle says, an empty object or dict comes of it.
"""

from typing import Any


class Ignored:
    """Takes any arguments and state, and keeps none."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> "Ignored":
        """Return an empty object."""
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Keep nothing."""


class IgnoredDict:
    """Gives an empty dict, whatever it is called with; the pickle may fill it."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> Any:
        """Return a new dict."""
        return {}


_NUMPY = ("core", "_core")
_OBJECTS = (
    *("argparse.Namespace", "types.SimpleNamespace", "builtins.bytes", "builtins.slice"),
    *("builtins.range", "builtins.frozenset", "builtins.list", "builtins.dict", "builtins.int"),
    *("builtins.float", "builtins.str", "builtins.bool", "builtins.tuple"),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"datetime.{name}" for name in ("datetime", "date", "timedelta", "timezone")),
    *("numpy.dtype", "numpy.ndarray", "uuid.UUID", "decimal.Decimal", "fractions.Fraction"),
    *(f"numpy.{core}.multiarray.{name}" for core in _NUMPY for name in ("scalar", "_reconstruct")),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.nodes.AnyNode"),
    "typing.Any",
)
_DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_utilities.core.rank_zero.AttributeDict",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "yacs.config.CfgNode",
)
STAND_INS: list[Any] = [
    *((Ignored, name) for name in _OBJECTS),
    *((IgnoredDict, name) for name in _DICTS),
]
"""Pairs of what is called instead, and the name of a class or function, as PyTorch takes them."""
