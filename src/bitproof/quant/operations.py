"""Every operation that a graph can hold: what it reads, what it stores, and its attributes.

This is the list that validation of network files follows, and that exchange formats map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from bitproof.core.errors import near
from bitproof.quant.graph import Node

Sort = Literal["source", "memory", "mac", "sum", "lookup", "norm", "movement"]
"""`memory` gives stored words as they are; `mac` multiplies and accumulates in wide accumulators;
`sum` adds, averages or multiplies elementwise; `lookup` reads a table; `norm` standardizes by the
moments of each input; `movement` moves or selects words and never computes new ones."""

Sizes = list[int]
Shape = list[int | list[int | str]]
Index = list[int | list[int | None]]
Clamp = list[float | None]
MANY = 1 << 20
"""No bound on the number of inputs."""


@dataclass(frozen=True)
class Operation:
    """What nodes of one operation have in common.

    Example:
        >>> OPERATIONS["concat"].problem({"dim": "1"}, reads=2)
        "wanted 'dim' of int, got '1'"
        >>> OPERATIONS["concat"].problem({"dim": 1}, reads=2)
        ''
    """

    sort: Sort
    reads: tuple[int, int] = (1, 1)
    """Fewest and most inputs."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Type of each attribute that a node must have, as it stands in JSON."""
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Type of each attribute that a node may have."""
    stores: tuple[str, ...] = ()
    """Tensors that a node must have."""

    def problem(self, attrs: Mapping[str, Any], *, reads: int) -> str:
        """Say what is wrong with a node's attributes and number of inputs; empty if nothing is."""
        low, high = self.reads
        if not low <= reads <= high:
            return f"wanted {low if low == high else f'at least {low}'} inputs, got {reads}"
        types = {**self.attributes, **self.optional}
        for name in sorted(self.attributes.keys() - attrs.keys()):
            return f"wanted the attribute '{name}', got {', '.join(sorted(attrs)) or 'none'}"
        for name, value in attrs.items():
            if name not in types:
                return f"no attribute '{name}'. {near(name, types)}"
            try:
                _adapter(types[name]).validate_python(value, strict=True)
            except ValidationError:
                plain = isinstance(types[name], type)
                wanted = types[name].__name__ if plain else types[name]
                return f"wanted '{name}' of {wanted}, got {value!r}"
        return ""


_MOVES = {"stride": Sizes, "padding": Sizes, "dilation": Sizes}
_POOLS = {"kernel": Sizes, "stride": Sizes, "padding": Sizes}
_CLAMPS = {"clamp": Clamp}

OPERATIONS: dict[str, Operation] = {
    "input": Operation(
        "source",
        (0, 0),
        optional={"rank": int, "mean": list[float], "std": list[float], "tokens": bool},
    ),
    "constant": Operation("memory", (0, 0), stores=("weight",)),
    "embedding": Operation("memory", (1, 1), stores=("weight",)),
    "conv": Operation("mac", (1, 1), {**_MOVES, "groups": int}, _CLAMPS, ("weight",)),
    "linear": Operation("mac", (1, 1), {}, _CLAMPS, ("weight",)),
    "affine": Operation("mac", (1, 1), {}, {**_CLAMPS, "rank": int}, ("weight",)),
    "matmul": Operation("mac", (2, 2), {}, _CLAMPS),
    "add": Operation("sum", (2, 2), {}, _CLAMPS),
    "sub": Operation("sum", (2, 2), {}, _CLAMPS),
    "mul": Operation("sum", (2, 2), {}, _CLAMPS),
    "div": Operation("sum", (2, 2), {}, _CLAMPS),
    "maximum": Operation("sum", (2, 2), {}, _CLAMPS),
    "minimum": Operation("sum", (2, 2), {}, _CLAMPS),
    "concat": Operation("sum", (1, MANY), {"dim": int}),
    "resample": Operation("sum", (1, 1), {"dim": int, "weights": list[Sizes], "divisors": Sizes}),
    "avg_pool": Operation("sum", (1, 1), _POOLS),
    "mean": Operation("sum", (1, 1), {"dims": Sizes, "keepdim": bool}, _CLAMPS),
    "requantize": Operation("sum", (1, 1)),
    "table": Operation("lookup", (1, 1), {"function": str}, {"parameters": dict[str, float | str]}),
    "softmax": Operation("lookup", (1, 1), {"dim": int}, {"masked": bool}),
    "log_softmax": Operation("lookup", (1, 1), {"dim": int}),
    "layer_norm": Operation("norm", (1, 1), {"axes": int, "eps": float}),
    "group_norm": Operation("norm", (1, 1), {"groups": int, "eps": float}),
    "rms_norm": Operation("norm", (1, 1), {"dims": Sizes, "eps": float}),
    "rms": Operation("norm", (1, 1), {"dims": Sizes, "keepdim": bool, "eps": float}),
    "reshape": Operation("movement", (1, 1), {"shape": Shape}),
    "expand": Operation("movement", (1, 1), {"shape": Shape}),
    "permute": Operation("movement", (1, 1), {"dims": Sizes}),
    "slice": Operation("movement", (1, 1), {"index": Index}),
    "pad": Operation("movement", (1, 1), {"padding": Sizes}, {"lowest": bool}),
    "max_pool": Operation("movement", (1, 1), {**_POOLS, "dilation": Sizes, "ceil_mode": bool}),
    "take": Operation("movement", (1, 1), {"dim": int, "index": Sizes}),
    "spread": Operation("movement", (1, 1), {"factors": Sizes}),
    "amax": Operation("movement", (1, 1), {"dims": Sizes, "keepdim": bool}),
    "amin": Operation("movement", (1, 1), {"dims": Sizes, "keepdim": bool}),
    "mask": Operation("movement", (1, 1), {"sizes": Sizes, "bits": str}),
    "rescale": Operation("movement", (1, 1), {"factor": float}),
}
"""Every operation, by name."""


def of_sort(*sorts: Sort) -> frozenset[str]:
    """Return the operations of some sorts.

    Example:
        >>> sorted(of_sort("norm"))
        ['group_norm', 'layer_norm', 'rms', 'rms_norm']
    """
    return frozenset(name for name, known in OPERATIONS.items() if known.sort in sorts)


MAC_OPS, SUM_OPS, NORM_OPS = of_sort("mac"), of_sort("sum"), of_sort("norm")
MOVING_OPS, MEMORY_OPS = of_sort("movement"), of_sort("memory")
CLAMPING_OPS = frozenset(name for name, known in OPERATIONS.items() if "clamp" in known.optional)
"""Operations that can clamp what they compute, at no cost."""


NEEDS_ZERO = frozenset({"pad", "max_pool", "spread"})
"""Movements that bring zeros in, and so work on centered words."""
MOVES_TOKENS = frozenset({"reshape", "expand", "permute", "slice", "take"})
"""What may happen to token numbers before they are looked up."""


def is_written(node: Node) -> bool:
    """Tell whether a node writes words of its own, which a memory for activations holds."""
    return node.op not in MOVING_OPS | MEMORY_OPS and not node.attrs.get("tokens")


@lru_cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
