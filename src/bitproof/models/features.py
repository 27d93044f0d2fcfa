"""The features that the last linear layer sees, taken while the model runs as it is."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitproof.core.errors import TraceError, near, shorten
from bitproof.models.norms import evaluating


def penultimate(model: nn.Module, example: Float[Tensor, "n *features"]) -> str:
    """Return the path of the linear layer that makes the logits.

    The model runs once on `example`, in evaluation mode and without gradients; every layer is
    put back into the mode that it had.

    Raises:
        TraceError: no linear layer runs, or the last one that does makes something else.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> penultimate(model, torch.zeros(1, 4))
        '2'
    """
    ran: list[tuple[str, torch.Size]] = []

    def note(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _layer, _inputs, output: ran.append((path, output.shape))

    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [layer.register_forward_hook(note(path)) for path, layer in layers.items()]
    try:
        with evaluating(model), torch.no_grad():
            output = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise TraceError(
            f"features: wanted a model whose logits come from an nn.Linear, none ran "
            f"({len(layers)} in the model)"
        )
    path, shape = ran[-1]
    if not isinstance(output, Tensor) or output.shape != shape:
        came = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TraceError(
            f"features: the last nn.Linear that runs, '{path}', makes {list(shape)}, "
            f"but the model returns {came}"
        )
    return path


def with_features(
    model: nn.Module, inputs: Float[Tensor, "n *features"], head: str
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n f"]]:
    """Return the logits and what enters the layer `head`, with their gradients.

    The model runs in the mode that it is in.

    Raises:
        TraceError: there is no layer `head`, or it does not run.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> logits, features = with_features(model, torch.zeros(5, 4), "2")
        >>> logits.shape, features.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """
    layers = dict(model.named_modules())
    if head not in layers:
        linear = [path for path, layer in layers.items() if isinstance(layer, nn.Linear)]
        raise TraceError(f"features: no layer {shorten(head)}. {near(head, linear)}")
    caught: list[Tensor] = []
    hook = layers[head].register_forward_pre_hook(
        lambda _layer, inputs, named: caught.append([*inputs, *named.values()][0]),
        with_kwargs=True,
    )
    try:
        logits = model(inputs)
    finally:
        hook.remove()
    if not caught:
        raise TraceError(f"features: the layer {shorten(head)} did not run")
    return logits, caught[-1].flatten(1)
