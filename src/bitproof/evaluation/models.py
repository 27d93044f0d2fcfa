"""What is measured: an integer network, or a float model to compare it with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from bitproof.attacks import Classifier
from bitproof.faults import FaultModel, Site, corrupt, corrupt_float32, faulty_activations
from bitproof.quant.network import IntegerNetwork


@runtime_checkable
class EvaluatedModel(Protocol):
    """Something that classifies, has gradients, and whose memory can break."""

    def digest(self) -> str:
        """Return the SHA-256 of whatever its answers depend on."""

    def predict(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits."""

    def differentiable(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits with gradients to the inputs."""

    def broken(
        self, fault: FaultModel, *, sites: Sequence[Site], generator: torch.Generator
    ) -> Classifier:
        """Return the classifier that a faulty memory makes of this one."""


@dataclass(frozen=True)
class IntegerModel:
    """An integer network; predictions are exact integer arithmetic."""

    network: IntegerNetwork

    def digest(self) -> str:
        """Return the digest of the network."""
        return self.network.digest()

    def predict(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits by integer arithmetic."""
        return self.network(inputs)

    def differentiable(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits with straight-through gradients."""
        return self.network.differentiable(inputs)

    def broken(
        self, fault: FaultModel, *, sites: Sequence[Site], generator: torch.Generator
    ) -> Classifier:
        """Return the network with faults in the words of `sites`."""
        stored = tuple(site for site in sites if site != "activation")
        network = corrupt(self.network, fault, generator=generator, sites=stored)
        if "activation" in sites:
            return faulty_activations(network, fault, generator=generator)
        return network


@dataclass(frozen=True)
class FloatModel:
    """A float model in evaluation mode, its weights and biases stored as float32 words."""

    model: nn.Module

    def digest(self) -> str:
        """Return the SHA-256 of the names and bytes of all weights, and of the architecture."""
        state = hashlib.sha256(repr(self.model).encode())
        for name, tensor in self.model.state_dict().items():
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(
                tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            )
        return state.hexdigest()

    def predict(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits, without gradients."""
        with torch.no_grad():
            return self.differentiable(inputs)

    def differentiable(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n k"]:
        """Return logits with gradients to the inputs."""
        logits: Tensor = self.model(inputs)
        return logits

    def broken(
        self, fault: FaultModel, *, sites: Sequence[Site], generator: torch.Generator
    ) -> Classifier:
        """Return the model with faults in its float32 parameters; activations stay whole."""
        codes = {
            name: weight.detach()
            for name, weight in self.model.named_parameters()
            if ("bias" if name.endswith("bias") else "weight") in sites
        }
        faulty = corrupt_float32(codes, fault, generator=generator)

        @torch.no_grad()
        def classify(inputs: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.model, faulty, (inputs,))
            return logits

        return classify
