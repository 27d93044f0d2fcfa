"""What the benchmark of training compares with: Pillow one image at a time, and torch.ao's layers.

Both as their own documentation has it, in the best case: weights alone are quantized, one grid per
tensor; the observer is torch.ao's cheapest.
"""

import random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.ao.nn import qat
from torch.ao.quantization import FakeQuantize, MinMaxObserver, QConfig
from torch.utils.data import Dataset as TorchDataset

from bitproof.data import Dataset

WEIGHT_ONLY = QConfig(
    activation=nn.Identity,
    weight=FakeQuantize.with_args(
        observer=MinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_tensor_affine,
    ),
)


class OneByOne(TorchDataset[tuple[Tensor, int]]):
    """Images that Pillow crops and mirrors one at a time, as data sets for loaders do."""

    def __init__(self, data: Dataset) -> None:
        self.pixels: NDArray[np.uint8] = data.images.cpu().permute(0, 2, 3, 1).numpy()
        self.labels: list[int] = data.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        padded = ImageOps.expand(Image.fromarray(self.pixels[index]), 4)
        left, top = random.randint(0, 8), random.randint(0, 8)
        image = padded.crop((left, top, left + padded.width - 8, top + padded.height - 8))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        array = np.array(image).transpose(2, 0, 1)
        return torch.from_numpy(array).to(torch.float32) / 255, self.labels[index]


def with_torch_layers(model: nn.Module) -> nn.Module:
    """Return `model` with the quantization-aware layers of torch.ao in place of its own."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            for plain, aware in ((nn.Conv2d, qat.Conv2d), (nn.Linear, qat.Linear)):
                if type(child) is plain:
                    child.qconfig = WEIGHT_ONLY  # type: ignore[assignment]
                    setattr(module, name, aware.from_float(child))
    return model
