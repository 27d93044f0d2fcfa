"""Random weights that behave as trained ones: no dead branches, norms that fit their inputs.

Authors start residual branches at zero, layer scales at 1e-6 and heads near zero, and norms at the
statistics of nothing. A network of such weights passes its input on, whatever its layers do, and
quantizes far too well. Nothing of the code is changed, only numbers.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.core.rng import make_generator

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def wake_(model: nn.Module, batches: list[Tensor], *, head: bool) -> None:
    """Draw constant parameters anew, measure batch norms on `batches`, and center the outputs.

    With `head`, the bias of a linear or convolutional layer that gives the output is set so that
    every class has the mean 0: a random network would otherwise give every sample one answer.
    """
    for name, parameter in model.named_parameters():
        _draw_(name, parameter)
    normed = any("Norm" in type(module).__name__ for module in model.modules())
    for module in model.modules():
        if isinstance(module, LAYERS) and isinstance(module.weight, nn.Parameter):
            _spread_(module.weight, gain=1.0 if normed else 2**0.5)
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average over all batches
    for batch in batches if norms else []:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    if head:
        _center_(model, torch.cat(batches))


def _draw_(name: str, parameter: nn.Parameter) -> None:
    first = parameter.flatten()[0] if parameter.numel() > 1 else None
    if first is None or not parameter.is_floating_point() or not bool((parameter == first).all()):
        return
    generator = make_generator(0, name)
    if float(first) == 0.0:
        scale = 0.1 if parameter.ndim == 1 else 0.02
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        if name.endswith("weight") and parameter.ndim == 1:  # the last norm of a branch
            parameter.copy_(0.2 + 0.3 * torch.rand(parameter.shape, generator=generator))
    else:
        size = float(first) if abs(float(first)) >= 0.05 else 0.3
        parameter.copy_(size * (0.5 + torch.rand(parameter.shape, generator=generator)))


def _spread_(weight: nn.Parameter, *, gain: float) -> None:
    """Scale small weights up until outputs are `gain` times as large as inputs, as after training.

    Else attention looks everywhere alike, and answers hardly depend on the input.
    """
    present = float(weight.std()) * weight[0].numel() ** 0.5
    if 0 < present < gain:
        weight *= gain / present


def _center_(model: nn.Module, inputs: Tensor) -> None:
    """Subtract the mean output from the bias of the layer that makes the output, if one does."""
    outputs: dict[int, nn.Module] = {}

    def keep(module: nn.Module, _args: object, output: Tensor) -> None:
        outputs[output.data_ptr()] = module

    chosen = [module for module in model.modules() if isinstance(module, LAYERS)]
    hooks = [module.register_forward_hook(keep) for module in chosen]
    result = first_tensor(model(inputs))
    for hook in hooks:
        hook.remove()
    last = outputs.get(result.data_ptr())
    if last is None or last.bias is None:
        return
    axis = result.ndim - 1 if isinstance(last, nn.Linear) else 1
    kept = [dim for dim in range(result.ndim) if dim != axis]
    mean = result.mean(kept)
    if mean.shape == last.bias.shape:
        last.bias -= mean


def first_tensor(output: object) -> Tensor:
    """Return the logits of what a model returned: a tensor, a tuple, a dict or an object."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):  # what Transformers returns is one, too
        return first_tensor(output.get("logits", next(iter(output.values()))))
    if isinstance(output, tuple | list):
        return first_tensor(output[0])
    raise TypeError(f"wanted a tensor, tuple or dict, got {type(output).__name__}")
