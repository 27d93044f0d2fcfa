"""Adversaries on the input: bounded perturbations that make a network wrong.

Base (`base`, `balls`), gradients (`ascent`, `apgd`), scores only (`random_search`), and the
authors' AutoAttack (`autoattack`, an optional package).
"""

from bitproof.attacks.apgd import LinfAPGD
from bitproof.attacks.ascent import FGSM, L2PGD, LinfPGD, Loss, input_gradient, signed_ascent
from bitproof.attacks.autoattack import AutoAttack
from bitproof.attacks.balls import Ball, project_l2, project_linf
from bitproof.attacks.base import ATTACKS, AnyAttack, Classifier, InputAttack
from bitproof.attacks.random_search import LinfNoise, LinfSquare
from bitproof.core.errors import InputShapeError

__all__ = [
    "ATTACKS",
    "FGSM",
    "L2PGD",
    "AnyAttack",
    "AutoAttack",
    "Ball",
    "Classifier",
    "InputAttack",
    "InputShapeError",
    "LinfAPGD",
    "LinfNoise",
    "LinfPGD",
    "LinfSquare",
    "Loss",
    "input_gradient",
    "project_l2",
    "project_linf",
    "signed_ascent",
]
