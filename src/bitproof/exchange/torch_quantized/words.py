"""Words of plain integers, as pt2e has them, and `torch.quantize_per_tensor`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from bitproof.core.errors import ExchangeError
from bitproof.exchange.torch_quantized.translator import Translator, name_of

PLAIN_WORDS: dict[torch.dtype, Any] = {
    **{torch.uint8: np.uint8, torch.int8: np.int8, torch.int16: np.int16},
    **{torch.int32: np.int32, torch.uint16: np.uint16},
}


def quantized(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `torch.quantize_per_tensor`, and that of pt2e, whose words are plain integers."""
    source = t.argument(n, 0, "input")
    if value.is_quantized:
        t.give(n, "Identity", [t.real(source)], value)
        return
    scale, point, least, most, dtype = (t.value(one) for one in n.args[1:6])
    grid = _plain_grid(t, n, scale, point, dtype)
    whole = torch.iinfo(dtype)
    name = n.name if (least, most) == (whole.min, whole.max) else f"{n.name}/whole"
    t._append("QuantizeLinear", (t.real(source), *grid), name)
    if name != n.name:
        words = PLAIN_WORDS[dtype]
        ends = [t.constant(f"{n.name}/end{k}", np.asarray(e, words)) for k, e in
                enumerate((least, most))]  # fmt: skip
        t._append("Clip", (name, *ends), n.name)


def dequantized(t: Translator, n: fx.Node, _: Tensor) -> None:
    """Translate `dequantize_per_tensor` and `dequantize_per_channel` of pt2e."""
    arguments: Any = n.args
    axis = 0
    if "channel" in name_of(n):
        words, scale, point, axis, *rest = arguments
    else:
        words, scale, point, *rest = arguments
    least, most, dtype = (t.value(one) for one in rest[:3])
    codes = words.name
    if words.op == "get_attr":
        whole = torch.iinfo(dtype)
        if (least, most) != (whole.min, whole.max):
            plain = PLAIN_WORDS[dtype]
            ends = [t.constant(f"{n.name}/end{k}", np.asarray(e, plain)) for k, e in
                    enumerate((least, most))]  # fmt: skip
            t._append("Clip", (codes, *ends), f"{n.name}/clipped")
            codes = f"{n.name}/clipped"
    grid = _plain_grid(t, n, t.value(scale), t.value(point), dtype)
    t._append("DequantizeLinear", (codes, *grid), n.name, {"axis": int(axis)})


def _plain_grid(
    t: Translator, n: fx.Node, scale: Any, point: Any, dtype: torch.dtype
) -> tuple[str, str]:
    if dtype not in PLAIN_WORDS:
        raise ExchangeError(f"{n.name}: no integer form for words of type {dtype}")
    scales = torch.as_tensor(scale, dtype=torch.float32).numpy()
    points = torch.as_tensor(point).numpy().astype(PLAIN_WORDS[dtype])
    return t.constant(f"{n.name}/scale", scales), t.constant(f"{n.name}/point", points)
