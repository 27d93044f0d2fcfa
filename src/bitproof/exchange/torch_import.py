"""A model that torch quantized as an integer network: its words and scales as they are.

Model:  eager and FX mode of `torch.ao.quantization` (static int8), and the graphs that pt2e of
        torch or torchao converts to. Torch adds real biases; here they are rounded to int32 steps
        of their accumulators, so that a word at a tie may differ by one.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from bitproof.core.errors import ExchangeError, ModelError
from bitproof.core.rng import make_generator
from bitproof.exchange.assembly import RUNS, merged
from bitproof.exchange.onnx_import import InputScaling, check_range, walk
from bitproof.exchange.torch_quantized import graph_of
from bitproof.models.user_module import inside_wrappers
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.trace import quantized_by_torch


def from_torch_quantized(
    model: nn.Module,
    images: Float[Tensor, "n *features"],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> IntegerNetwork:
    """Return the integer network of a model that is quantized already.

    The network takes images in [0, 1]; `mean` and `std`, by channel, say what the model wants
    instead, as in `import_onnx`.

    Args:
        model: converted in eager or FX mode of `torch.ao.quantization`, or by pt2e.
        images: at least one, in [0, 1]; one is enough, nothing is measured on it.
        mean: what the model wants subtracted.
        std: what it wants to divide by.

    Raises:
        ExchangeError: it is not quantized, or a part has no form as integers; it is named.
        ModelError: it is no module as written in Python.

    Example:
        >>> from_torch_quantized(nn.ReLU(), torch.rand(1, 1, 2, 2))
        Traceback (most recent call last):
        ...
        bitproof.core.errors.ExchangeError: ReLU: wanted a quantized model, got a float one
    """
    model = inside_wrappers(model)
    name = type(model).__name__
    scaling = None if mean is None and std is None else InputScaling.of(mean, std)
    module = _traced(model)
    if not quantized_by_torch(module):
        raise ExchangeError(f"{name}: wanted a quantized model, got a float one")
    shape = tuple(images.shape[1:])
    networks = []
    for number in RUNS:
        batch = torch.rand((number, *shape), generator=make_generator(0))
        example = batch if scaling is None else scaling.apply(batch)
        try:
            file = graph_of(module, example)
            networks.append(walk(file, file.inputs[0], shape, scaling, number))
        except ExchangeError as error:
            raise ExchangeError(f"{name}: {error}") from None
    network = merged(networks, name)
    if scaling is None:
        check_range(network, name)
    return network


class _Tracer(fx.Tracer):
    """A tracer that leaves buffers, such as weights in words, where they are."""

    proxy_buffer_attributes = True


def _traced(model: nn.Module) -> fx.GraphModule:
    """Return the calls of a model; a graph that torch made is taken as it is."""
    if isinstance(model, fx.GraphModule):
        return model
    plain = copy.deepcopy(model).eval()
    try:
        graph = _Tracer().trace(plain)
    except Exception as error:  # whatever the user's forward raises
        raise ModelError(
            f"{type(model).__name__}: cannot be traced ({' '.join(str(error).split())[:200]})"
        ) from None
    return fx.GraphModule(plain, graph)
