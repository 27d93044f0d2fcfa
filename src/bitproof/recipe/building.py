"""The model that a recipe starts from, and where it runs: one way for runs, campaigns and verbs."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bitproof.core.errors import ModelError, RecipeError, shorten
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.data.layout import data_root
from bitproof.models import ImageModelSpec, ModelSpec, split_choice, take_weights
from bitproof.models.pretrained import PUBLISHED_WEIGHTS

PRETRAINED = "pretrained"
"""Stands for the published weights of an architecture."""


def build(
    spec: ModelSpec,
    images: Dataset,
    *,
    seed: int = 0,
    weights: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> nn.Module:
    """Return a model for images such as these, on the CPU; initial weights are drawn from `seed`.

    `tell` gets what was done to find the weights in their file, in words; nothing where they lay
    there plain.

    Raises:
        ModelError: it does not fit the images.
        WeightsError: the file cannot be read, or does not fit.
    """
    if isinstance(spec, ImageModelSpec) and not images.is_images:
        # Layers for images take (3, 3, 32) for one image, and would answer for that.
        raise ModelError(
            f"{spec.kind}: wanted images of shape (n, c, h, w), {images.name} holds inputs of "
            f"shape {tuple(images.images.shape)}; hand in a network of "
            "your own, package.module:factory"
        )
    model = spec.build(
        in_channels=images.images.shape[1],
        image_size=images.images.shape[2] if images.images.ndim > 2 else 1,
        n_classes=images.n_classes,
        generator=make_generator(seed, "weights"),
    )
    if weights is None:
        return model
    model, said = take_weights(model, weights)
    if said and tell is not None:
        tell(said)
    return model


def untrained(model: nn.Module, spec: ModelSpec, images: Dataset, *, seed: int = 0) -> str:
    """Return a warning if weights of a model are random, as one built from another seed tells.

    A factory that loads weights by itself, or draws them from a seed of its own, gives no warning.

    Raises:
        ModelError: the model does not fit the images.
    """
    other = build(spec, images, seed=seed + 1).state_dict()
    state = model.state_dict()
    drawn = [
        name
        for name, value in state.items()
        if value.is_floating_point() and name in other and not torch.equal(value, other[name])
    ]
    if not drawn:
        return ""
    named = ", ".join(f"'{name}'" for name in drawn[:2]) + (", ..." if len(drawn) > 2 else "")
    return (
        f"the network is untrained: no weights were given, and {len(drawn)} of its {len(state)} "
        f"tensors are random ({named}); give 'weights' for results that mean something"
    )


def choose_device(wanted: str) -> torch.device:
    """Return the device that `wanted` names; `auto` takes a GPU where there is one."""
    if wanted not in {"auto", "cpu", "cuda"}:
        raise RecipeError(f"device: wanted auto, cpu or cuda, got {shorten(wanted)}")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device: cuda was asked for, this torch sees no CUDA device")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def weights_of(
    name: str, spec: ModelSpec, *, recipe_dir: Path | None, data_dir: Path | None
) -> Path | None:
    """Return the file of the weights that a recipe names, None where it names none."""
    if not name:
        return None
    return find_weights(name, recipe_dir, data_root(data_dir), kind=spec.kind)


def find_weights(name: str, *folders: Path | None, kind: str = "") -> Path:
    """Return the weights file of that name in one of the folders, or in the working directory.

    `pretrained` names that of the architecture `kind` in `weights/` of a folder; `FILE:NAME` names
    one of several dicts of a file, see `take_weights`.

    Raises:
        RecipeError: it lies in none of them.
    """
    if name == PRETRAINED:
        found = [path for at in folders if at for path in sorted(at.glob(f"weights/{kind}-*.npz"))]
        if not found:
            looked = ", ".join(str(at) for at in folders if at) or "no folder: there is none"
            known = next((n for n, own in PUBLISHED_WEIGHTS.items() if own.kind == kind), "")
            cure = f"; get them with `bitproof data fetch {known}`" if known else ""
            raise RecipeError(
                f"weights: no pretrained weights of '{kind}'; looked for weights/{kind}-*.npz in "
                f"{looked}{cure}"
            )
        return found[0]
    tried = [folder / name for folder in (*folders, Path()) if folder is not None]
    for path in tried:
        if split_choice(path)[0].is_file():
            return path
    looked = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise RecipeError(f"weights: no file {shorten(name)}; looked for {looked}")
