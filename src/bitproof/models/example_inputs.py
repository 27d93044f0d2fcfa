"""Inputs for a module of which nothing is known but its first layer: noise, or tokens."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.models.norms import evaluating
from bitproof.models.user_module import dtype_of

INPUTS = 64
"""How many there are."""
SIZES = {1: ((128,), (1024,)), 2: ((32, 32), (224, 224), (28, 28), (64, 64)), 3: ((16, 32, 32),)}
"""Sizes of signals, images and volumes that are tried."""
TOKENS = 16
"""Tokens of an input that is tried."""


def random_inputs(model: nn.Module, shape: Sequence[int] | None = None) -> Tensor:
    """Return inputs of a shape, or of the first that the model runs on: noise, or tokens.

    Raises:
        ModelError: it runs on none of those that its first layer asks for.
    """
    tokens = _vocabulary(model)
    problems = []
    for each in [shape] if shape is not None else _shapes(model):
        generator = make_generator(0, "check")
        noise = torch.rand((INPUTS, *each), generator=generator)
        inputs = noise if tokens is None else (noise * tokens).long()
        try:
            with torch.no_grad(), evaluating(model):
                model(inputs[:2].to(dtype_of(model)) if tokens is None else inputs[:2])
        except Exception as error:  # whatever the user's forward raises on a wrong shape
            problems.append(f"{tuple(each)}: {(str(error).splitlines() or [''])[0][:100]}")
            continue
        return inputs
    tried = "; ".join(problems[:3]) or "its first layer tells no shape"
    raise ModelError(
        f"{type(model).__name__}: wanted the shape of one input, such as --input 3,32,32; {tried}"
    )


def _vocabulary(model: nn.Module) -> int | None:
    """Return how many tokens there are, where the first layer with weights is an embedding."""
    first = next((m for m in model.modules() if list(m.parameters(recurse=False))), None)
    return first.num_embeddings if isinstance(first, nn.Embedding) else None


def _shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield shapes of one input that the first layer may take."""
    for layer in model.modules():
        if isinstance(layer, nn.Embedding):
            yield (TOKENS,)
        elif isinstance(layer, nn.Linear):
            for channels, side in ((1, 28), (1, 8), (3, 32)):
                if layer.in_features == channels * side**2:
                    yield (channels, side, side)
            yield (layer.in_features,)
            yield (TOKENS, layer.in_features)
        elif isinstance(layer, nn.RNNBase):
            yield (TOKENS, layer.input_size)
        elif type(layer).__name__ in {"Conv1d", "Conv2d", "Conv3d"}:
            ranks = int(type(layer).__name__[4])
            yield from ((int(layer.in_channels), *size) for size in SIZES[ranks])  # type: ignore[arg-type]
        else:
            continue
        return
