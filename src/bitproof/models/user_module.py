"""A module as its user hands it in: what it is wrapped in, and what of it can be traced.

Model:  wrappers that run the same network elsewhere (`DataParallel`, `torch.compile`) are taken
        off. What computes a weight anew in each call (parametrizations, old weight and spectral
        norm, pruning) is worked out once, in evaluation mode; float64, float16 and bfloat16
        parameters become float32 ones (from float64 to within 2**-24 of each value, from the others
        exactly). All of that happens in a copy: the user's module stays as it was. Forward hooks
        are left out; those that change answers are refused by name.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bitproof.core.errors import ModelError, TraceError
from bitproof.models.norms import evaluating

WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}
"""Torch's modules that run another one, and the name that they hold it under. Kinds are known by
name, because that of `torch.compile` takes seconds to import."""
REMOVERS: dict[type, Callable[[nn.Module, str], nn.Module]] = {
    WeightNorm: remove_weight_norm,
    SpectralNorm: remove_spectral_norm,
    prune.BasePruningMethod: prune.remove,
}
"""Hooks that compute a weight before each call, and what leaves the computed weight behind."""
COMPUTES_WEIGHTS = tuple(REMOVERS)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside `DataParallel` and `torch.compile`, as it was written in Python.

    It is the user's own; only where parts of it are wrapped, it is a copy without the wrappers.

    Raises:
        ModelError: it is no module, or TorchScript or an exported program.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(layer)) is layer
        True
    """
    model = inside_wrappers(model)
    if any(_inside(module) is not None for module in model.modules()):
        return _copy(model, {})
    return model


def inside_wrappers(model: object) -> nn.Module:
    """Return the user's own module, inside what wraps it as a whole.

    Raises:
        ModelError: it is no module, or TorchScript or an exported program.
    """
    if not isinstance(model, nn.Module):
        came = type(model).__name__
        made = "; hand in the module that it was exported from" if "Exported" in came else ""
        raise ModelError(f"model: wanted an nn.Module as written in Python, got {_an(came)}{made}")
    while (inside := _inside(model)) is not None:
        model = inside
    _check_written_in_python(model)
    return model


def traceable(model: nn.Module, example: Num[Tensor, "n *features"]) -> nn.Module:
    """Return what computes what `model` does in evaluation mode, for tracing: plain, in float32.

    The first image of `example` tells whether forward hooks change answers. Paths of layers are
    those of the module inside its wrappers. It is the user's own module where there is nothing to
    change, else a copy.

    Raises:
        ModelError: see `unwrapped`.
        TraceError: forward hooks change its answers, or it has lazy layers that never ran.

    Example:
        >>> layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
        >>> type(traceable(layer, torch.zeros(1, 2))), type(layer).__name__
        (<class 'torch.nn.modules.linear.Linear'>, 'ParametrizedLinear')
    """
    model = unwrapped(model)
    for path, module in model.named_modules():
        if any(map(is_lazy, module.parameters(recurse=False))):
            raise TraceError(
                f"{path}: wanted a layer that knows its size, got {_an(type(module).__name__)} "
                "that never ran; run the model once on an input"
            )
    if not any(map(_needs_copy, model.modules())):
        return model
    plain = _copy(model, _without_hooks(model)).eval()
    for module in list(plain.modules()):
        _fix_weights_(module)
    plain = plain.float()
    if hooks := _hooks(model):
        _check_hooks(hooks, model, plain, example[:1])
    return plain


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of the numbers that `model` computes with: of its first float parameter.

    Example:
        >>> dtype_of(nn.Linear(2, 1).half())
        torch.float16
    """
    floats = (weight.dtype for weight in model.parameters() if weight.is_floating_point())
    return next(floats, torch.float32)


def _check_written_in_python(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{path or 'model'}: wanted an nn.Module as written in Python, got a ScriptModule; "
                "hand in the module that it was scripted from"
            )


def _inside(module: nn.Module) -> nn.Module | None:
    """Return what a wrapper wraps; None of any other module."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.") and kind.__name__ in WRAPPERS:
            inside: nn.Module = getattr(module, WRAPPERS[kind.__name__])
            return inside
    return None


def _hooks(model: nn.Module) -> dict[str, str]:
    """Return the name of a forward hook on each module that has one, by its path."""
    found = {}
    for path, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        for hook in hooks:
            if not isinstance(hook, COMPUTES_WEIGHTS):
                found[path or type(model).__name__] = getattr(hook, "__name__", type(hook).__name__)
    return found


def _check_hooks(
    hooks: Mapping[str, str], model: nn.Module, plain: nn.Module, image: Tensor
) -> None:
    """Check that the module without its hooks answers as the module with them."""
    with evaluating(model), torch.no_grad():
        try:
            wanted = model(image.to(dtype_of(model)) if image.is_floating_point() else image)
            found = plain(image)
            torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-3, check_dtype=False)
        except Exception as error:  # whatever the user's forward raises without its hooks
            named = ", ".join(f"'{name}' on {path}" for path, name in hooks.items())
            raise TraceError(
                "forward hooks: wanted none that change answers, which quantization would lose, "
                f"got {named}; remove them, or put what they do into `forward`"
            ) from error


def _needs_copy(module: nn.Module) -> bool:
    """Tell whether tracing needs another module than this one, whatever lies inside it."""
    own = module.parameters(recurse=False)
    return (
        parametrize.is_parametrized(module)
        or bool(module._forward_pre_hooks or module._forward_hooks)
        or module._compiled_call_impl is not None
        or any(weight.is_floating_point() and weight.dtype != torch.float32 for weight in own)
    )


def _without_hooks(model: nn.Module) -> dict[int, Any]:
    """Return what stands in for the hooks of modules in a deep copy: those that compute weights."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        before = module._forward_pre_hooks
        kept = {key: hook for key, hook in before.items() if isinstance(hook, COMPUTES_WEIGHTS)}
        memo[id(before)], memo[id(module._forward_hooks)] = OrderedDict(kept), OrderedDict()
    return memo


def _copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy without wrappers, not compiled; `memo` as `deepcopy` has it."""
    memo |= {id(value): value.detach().clone() for value in _computed(model)}
    try:
        for module in reversed(list(model.modules())):  # what lies inside comes first
            if (inside := _inside(module)) is not None:
                memo[id(module)] = deepcopy(inside, memo)
        return deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{type(model).__name__}: cannot be copied ({reason})") from error


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Yield tensors that modules hold as results of earlier calls, which cannot be copied."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _fix_weights_(module: nn.Module) -> None:
    """Make parameters of the weights that a module in evaluation mode computes for itself."""
    for hook in list(module._forward_pre_hooks.values()):
        name = getattr(hook, "_tensor_name", getattr(hook, "name", ""))
        for kind, remove in REMOVERS.items():
            if isinstance(hook, kind):
                remove(module, name)
    if not parametrize.is_parametrized(module):
        return
    # Not `remove_parametrizations`: it changes a class that the user's module has as well.
    with torch.no_grad():
        found = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in found.items():
        module.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))


def _an(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
