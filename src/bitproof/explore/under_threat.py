"""What a threat makes of a network and its images, so that scores can be taken under it.

Model:  under adversarial examples, images are those that the attack finds against exact products;
        under memory faults, stored words are those of one chip (activations stay whole). Under any
        other threat, scores are those of clean images.
"""

import torch

from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.data.dataset import Dataset
from bitproof.evaluation.adversarial_examples import BLOCK, AdversarialExamples
from bitproof.evaluation.memory_faults import MemoryFaults
from bitproof.evaluation.threat import Threat
from bitproof.faults import corrupt
from bitproof.quant.network import IntegerNetwork


def passes_under(threat: Threat) -> Passes:
    """Return what `under` takes for an image, at all levels."""
    if isinstance(threat, AdversarialExamples):
        return len(threat.levels) * threat.attack.passes
    return Passes()


def under(
    threat: Threat, level: float, network: IntegerNetwork, data: Dataset, *, seed: int
) -> tuple[IntegerNetwork, Dataset]:
    """Return network and images as a threat of this level leaves them."""
    if isinstance(threat, AdversarialExamples):
        attack, found = threat.attack.at(level), []
        for number, part in enumerate(data.blocks(BLOCK)):
            draw = make_generator(seed, "profile attack", number)
            images = part.inputs()
            found.append(attack.run(network.differentiable, images, part.labels, generator=draw))
        return network, Dataset(data.name, torch.cat(found).detach(), data.labels, data.n_classes)
    if isinstance(threat, MemoryFaults):
        chip = make_generator(seed, "profile chip")
        stored = tuple(site for site in threat.sites if site != "activation")
        faulty = corrupt(
            network,
            threat.fault.at(level),
            generator=chip,
            sites=stored,
            protections=threat.protections,
        )
        return faulty, data
    return network, data
