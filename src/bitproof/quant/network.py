"""The integer network: it runs in two ways that agree in every word.

`network(x)` computes with exact integers, `network.differentiable(x)` with the same integers held
in float32 and gradients that pass rounding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from bitproof.core.errors import InputRangeError, InputShapeError
from bitproof.core.shown import as_html, as_lines
from bitproof.quant.fake import run_differentiable
from bitproof.quant.integers import run_integers
from bitproof.quant.network_data import NetworkData
from bitproof.quant.network_facts import LAYERS, layer_rows, network_facts, network_title


@dataclass(frozen=True, eq=False)
class IntegerNetwork(NetworkData):
    """A quantized network, independent of the code that it came from.

    Example:
        >>> import torch
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, torch.rand(8, 1, 2, 2))
        >>> sorted(network.tensors)
        ['1.bias', '1.weight']
        >>> network(torch.rand(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """

    def __call__(self, inputs: Num[Tensor, "n *features"]) -> Float[Tensor, "n *outputs"]:
        """Return logits by integer arithmetic.

        Raises:
            InputRangeError: inputs lie outside [0, 1].
            InputShapeError: their shape is not that of the calibration images.
        """
        check_inputs(inputs, self.input_shape, tokens=self.tokens)
        return run_integers(self, in_float32(inputs))

    def differentiable(self, inputs: Num[Tensor, "n *features"]) -> Float[Tensor, "n *outputs"]:
        """Return the same logits with gradients to `inputs` that pass rounding as the identity.

        Raises:
            InputRangeError: inputs lie outside [0, 1].
            InputShapeError: their shape is not that of the calibration images.
        """
        check_inputs(inputs, self.input_shape, tokens=self.tokens)
        return run_differentiable(self, in_float32(inputs))

    def __repr__(self) -> str:
        return as_lines(network_title(self), network_facts(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the same, and a row for each layer."""
        facts = network_facts(self)
        return as_html(network_title(self), facts, header=LAYERS, rows=layer_rows(self))


def in_float32(inputs: Num[Tensor, "n *features"]) -> Num[Tensor, "n *features"]:
    """Return inputs of any float type as float32, integers as they are."""
    return inputs.float() if inputs.is_floating_point() else inputs


def check_inputs(
    images: Num[Tensor, "n *features"],
    shape: tuple[int, ...] | None = None,
    *,
    tokens: int | None = None,
) -> None:
    """Check that images lie in [0, 1], as everything here promises, or tokens below their number.

    Where a `shape` is given, each of them has it.

    Raises:
        InputRangeError: they do not, or hold NaN; or there are none.
        InputShapeError: they have another shape.
    """
    if shape is not None and tuple(images.shape[1:]) != shape:
        wanted = ", ".join(("n", *map(str, shape)))
        raise InputShapeError(
            f"images: wanted shape ({wanted}), as at calibration, got {tuple(images.shape)}"
        )
    if not images.numel():
        raise InputRangeError(f"images: wanted at least one, got shape {tuple(images.shape)}")
    if tokens is not None:
        _check_tokens(images, tokens)
        return
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also where they are NaN
        raise InputRangeError(
            f"images: wanted values in [0, 1], got {low:g} to {high:g}; "
            "put normalisation into the model"
        )


def _check_tokens(inputs: Num[Tensor, "n *features"], tokens: int) -> None:
    if inputs.is_floating_point() or inputs.dtype == torch.bool:
        raise InputRangeError(f"inputs: wanted token numbers (integers), got {inputs.dtype}")
    low, high = (int(end) for end in inputs.aminmax())
    if low < 0 or high >= tokens:
        raise InputRangeError(f"inputs: wanted tokens from 0 to {tokens - 1}, got {low} to {high}")
