"""What is measured: an integer network, or a float model to compare it with."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from bitproof.approx.naming import is_circuit
from bitproof.attacks import Classifier
from bitproof.core.errors import SpecError
from bitproof.core.spec import canonical_json
from bitproof.data.dataset import Dataset
from bitproof.faults import (
    FaultModel,
    Protection,
    Site,
    faulty_activations,
)
from bitproof.faults.bounding import Bounding, Restriction, activation_words, restrictions
from bitproof.faults.memory import (
    bounded,
    corrupt_counted,
    corrupt_float32_counted,
    site_of,
)
from bitproof.faults.protection import DecodedWords
from bitproof.models.norms import evaluating
from bitproof.models.user_module import dtype_of, unwrapped
from bitproof.quant.network import IntegerNetwork

PROFILE_IMAGES = 256
"""Training images that bounds of activations are taken from, the first ones."""


@runtime_checkable
class EvaluatedModel(Protocol):
    """Something that answers, has gradients, and whose memory can break."""

    def digest(self) -> str:
        """Return the SHA-256 of whatever its answers depend on."""

    def predict(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits."""

    def differentiable(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits with gradients to the inputs."""

    def broken(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> Classifier:
        """Return the classifier that a faulty memory, read through protections, makes of this."""


@runtime_checkable
class CountsWords(Protocol):
    """A model that tells how many words of its memory broke, where a protection counts them."""

    def broken_counted(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> tuple[Classifier, DecodedWords | None]:
        """Return what `broken` does, and the words by what protections made of them."""


@dataclass(frozen=True)
class IntegerModel:
    """An integer network; predictions are exact integer arithmetic."""

    network: IntegerNetwork
    profile: Dataset | None = field(default=None, compare=False, repr=False)
    """Training images that bounds of activations are taken from; None: there can be no bounds."""
    data_dir: Path | None = field(default=None, compare=False, repr=False)
    """Folder that tables of multipliers are read from; see `data_root`."""

    def digest(self) -> str:
        """Return the digest of the network, and of the circuits that it multiplies with.

        Circuits with equal tables have other gates, and so other faults.
        """
        words = {name: own.names for name, own in self.network.products.items()}
        gates = {name: own for name, own in words.items() if any(map(is_circuit, own))}
        digest = self.network.digest()
        if not gates:
            return digest
        return hashlib.sha256(canonical_json([digest, gates]).encode()).hexdigest()

    def predict(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits by integer arithmetic."""
        return self.network(inputs)

    def differentiable(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits with straight-through gradients."""
        return self.network.differentiable(inputs)

    def broken(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> Classifier:
        """Return the network with faults in the words of `sites`, read through `protections`.

        Raises:
            SpecError: a protection does not fit the network, or there are no images for bounds.
        """
        return self.broken_counted(
            fault, sites=sites, generator=generator, protections=protections
        )[0]

    def on_chip(self, fault: FaultModel, *, generator: torch.Generator) -> "IntegerModel":
        """Return the network with faults in its weights and biases, gradients and all."""
        network, _ = corrupt_counted(
            self.network, fault, generator=generator, sites=("weight", "bias")
        )
        return replace(self, network=network)

    def broken_counted(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> tuple[Classifier, DecodedWords | None]:
        """Return what `broken` does, and how many words broke; see `corrupt_counted`.

        Raises:
            SpecError: a protection does not fit the network, or there are no images for bounds.
        """
        stored = tuple(site for site in sites if site != "activation")
        bounds = self._bounds(protections)
        network, words = corrupt_counted(
            self.network, fault, generator=generator, sites=stored, protections=protections
        )
        if "activation" in sites:
            return faulty_activations(network, fault, generator=generator, bounds=bounds), words
        return (bounded(network, bounds) if bounds else network), words

    @cached_property
    def _profiled(self) -> dict[tuple[Protection, ...], Mapping[str, Restriction]]:
        return {}

    def _bounds(self, protections: Sequence[Protection]) -> Mapping[str, Restriction]:
        """Return what bounds do to the outputs of nodes; taken once."""
        wanted = tuple(one for one in protections if isinstance(one, Bounding))
        if wanted and self.profile is None:
            raise SpecError(f"{wanted[0].kind}: wanted training images to take bounds from")
        if wanted and self.profile is not None and wanted not in self._profiled:
            images = self.profile.inputs().to(self.network.device)
            words = activation_words(self.network, images)
            self._profiled[wanted] = restrictions(wanted, self.network, words)
        return self._profiled[wanted] if wanted else {}


@dataclass(frozen=True)
class FloatModel:
    """A float model in evaluation mode, its weights and biases stored as float32 words.

    The module stays in the mode that it is in. One of another float type gets its inputs in that
    type; logits are float32 in any case.

    Raises:
        ModelError: it is no module as written in Python.
    """

    model: nn.Module

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))

    def digest(self) -> str:
        """Return the SHA-256 of the names and bytes of all weights, and of the architecture."""
        state = hashlib.sha256(repr(self.model).encode())
        for name, tensor in self.model.state_dict().items():
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(
                tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            )
        return state.hexdigest()

    def predict(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits, without gradients."""
        with torch.no_grad():
            return self.differentiable(inputs)

    def differentiable(self, inputs: Shaped[Tensor, "n *features"]) -> Float[Tensor, "n *answer"]:
        """Return logits with gradients to the inputs."""
        if inputs.is_floating_point():
            inputs = inputs.to(dtype_of(self.model))
        with evaluating(self.model):
            logits: Tensor = self.model(inputs)
        return logits.float()

    def broken(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> Classifier:
        """Return the model with faults in its float32 parameters; activations stay whole.

        Raises:
            SpecError: 32-bit words do not fit a protection, or it would bound activations; or
                parameters are no float32.
        """
        return self.broken_counted(
            fault, sites=sites, generator=generator, protections=protections
        )[0]

    def broken_counted(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> tuple[Classifier, DecodedWords | None]:
        """Return what `broken` does, and how many words broke; see `corrupt_counted`.

        Raises:
            SpecError: as of `broken`.
        """
        if bounding := [one.kind for one in protections if isinstance(one, Bounding)]:
            raise SpecError(
                f"{bounding[0]}: wanted an integer network; activations of float models cannot be "
                "bounded, so leave out `float`"
            )
        codes = {
            name: weight.detach()
            for name, weight in self.model.named_parameters()
            if site_of(name) in sites
        }
        for name, weight in codes.items():
            if weight.dtype != torch.float32:
                raise SpecError(
                    f"{name}: wanted float32, whose words of 32 bits can break, "
                    f"got {weight.dtype}; hand in `model.float()`, or leave out `float`"
                )
        faulty, words = corrupt_float32_counted(
            codes, fault, generator=generator, protections=protections
        )

        @torch.no_grad()
        def classify(inputs: Tensor) -> Tensor:
            with evaluating(self.model):
                logits: Tensor = functional_call(self.model, faulty, (inputs,))
            return logits.float()

        return classify, words
