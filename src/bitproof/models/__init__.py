"""Architectures and checkpoints."""

from bitproof.models.base import MODELS, ImageModelSpec, ModelSpec
from bitproof.models.checkpoint import load_weights, save_weights
from bitproof.models.cifar_resnet import ResNet20, ResNet32, ResNet44, ResNet56
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.models.factory import Factory
from bitproof.models.features import catch_features, last_features, penultimate, with_features
from bitproof.models.lenet5 import LeNet5
from bitproof.models.normalize import Normalize
from bitproof.models.resnet18 import ResNet18

__all__ = [
    "MODELS",
    "DigitsCNN",
    "Factory",
    "ImageModelSpec",
    "LeNet5",
    "ModelSpec",
    "Normalize",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet44",
    "ResNet56",
    "catch_features",
    "last_features",
    "load_weights",
    "penultimate",
    "save_weights",
    "with_features",
]
