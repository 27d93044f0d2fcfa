"""Architectures and checkpoints."""

from bitproof.models.alexnet import AlexNet
from bitproof.models.base import MODELS, ImageModelSpec, ModelSpec, Normalize
from bitproof.models.checkpoint import (
    load_weights,
    save_weights,
    split_choice,
    take_weights,
    weight_files,
)
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.models.efficientnet import EfficientNetB0, EfficientNetLite0
from bitproof.models.factory import Factory
from bitproof.models.features import penultimate, with_features
from bitproof.models.in_memory import InMemoryModel
from bitproof.models.lenet5 import LeNet5
from bitproof.models.mobilenet import MobileNetV2
from bitproof.models.norms import ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.models.resnet import ResNet18, ResNet20, ResNet32, ResNet44, ResNet56
from bitproof.models.simplenet import SimpleNet
from bitproof.models.swin import SwinTiny
from bitproof.models.timm_adapter import Timm
from bitproof.models.vgg import VGG11, VGG16

__all__ = [
    "MODELS",
    "VGG11",
    "VGG16",
    "AlexNet",
    "DigitsCNN",
    "EfficientNetB0",
    "EfficientNetLite0",
    "Factory",
    "ImageModelSpec",
    "InMemoryModel",
    "LeNet5",
    "MobileNetV2",
    "ModelSpec",
    "Normalize",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet44",
    "ResNet56",
    "ScaledBatchNorm2d",
    "ScaledGroupNorm",
    "SimpleNet",
    "SwinTiny",
    "Timm",
    "load_weights",
    "penultimate",
    "save_weights",
    "split_choice",
    "take_weights",
    "weight_files",
    "with_features",
]
