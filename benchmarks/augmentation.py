"""Augmentation of a batch of 512 CIFAR images: the whole batch at a time against Pillow.

Cases: crop with an edge of 4, flip and Cutout of 16, without and with the 25 pairs of AutoAugment.
rival: one image at a time through Pillow, as data loaders do it, from an array to an array.
ours:  `augment` on the whole batch of 8-bit levels, on the CPU and, where there is one, on CUDA.
limit: one copy of the batch, where it is.
One thread for all; the images are blurred noise, with the smooth areas that real ones have.
"""

import random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from table import Row, interleave, json_path, save, show
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bitproof.core.rng import make_generator
from bitproof.data.augment import Augmentation, Cutout, Flip, PadCrop, augment
from bitproof.data.auto_augment import CIFAR10, AutoAugment, magnitude

N_IMAGES = 512
SIDE = 32
ROUNDS = 9
MEAN = (0.4914, 0.4822, 0.4465)
COLOUR = (125, 123, 114)
PLAIN: list[Augmentation] = [PadCrop(padding=4, fill=MEAN), Flip(), Cutout(size=16, fill=MEAN)]
LEARNED: list[Augmentation] = [*PLAIN[:2], AutoAugment(fill=MEAN), PLAIN[2]]
BLENDS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
TONES = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": lambda image, amount: ImageOps.posterize(image, round(amount)),
    "solarize": ImageOps.solarize,
}
MATRICES = {
    "shear_y": lambda amount: (1, 0, 0, amount, 1, 0),
    "translate_x": lambda amount: (1, 0, round(amount * SIDE), 0, 1, 0),
    "translate_y": lambda amount: (1, 0, 0, 0, 1, round(amount * SIDE)),
}


def change(image: Image.Image, name: str, level: int) -> Image.Image:
    amount = magnitude(name, level)
    if name in BLENDS:
        return BLENDS[name](image).enhance(amount)
    if name in TONES:
        return TONES[name](image, amount)
    amount *= random.choice((-1, 1))
    if name == "rotate":
        return image.rotate(amount, fillcolor=COLOUR)
    affine = Image.Transform.AFFINE
    return image.transform(image.size, affine, MATRICES[name](amount), fillcolor=COLOUR)


def change_one(image: Image.Image, *, learned: bool) -> NDArray[np.uint8]:
    padded = ImageOps.expand(image, 4, COLOUR)
    left, top = random.randint(0, 8), random.randint(0, 8)
    image = padded.crop((left, top, left + SIDE, top + SIDE))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if learned:
        for name, probability, level in random.choice(CIFAR10):
            if random.random() < probability:
                image = change(image, name, level)
    pixels = np.array(image)
    x, y = random.randrange(SIDE), random.randrange(SIDE)
    pixels[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = COLOUR
    return pixels.transpose(2, 0, 1)


def change_all(images: NDArray[np.uint8], *, learned: bool) -> Tensor:
    changed = [change_one(Image.fromarray(image), learned=learned) for image in images]
    return torch.from_numpy(np.stack(changed))


def measure(name: str, images: Tensor, learned: bool) -> tuple[Row, Row]:
    arrays = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    steps = LEARNED if learned else PLAIN
    generator = make_generator(0)

    def finish(result: Tensor) -> None:
        if result.is_cuda:
            torch.cuda.synchronize()

    work = {
        "rival": lambda: change_all(arrays, learned=learned),
        "ours": lambda: finish(augment(images, steps, generator=generator)),
        "limit": lambda: finish(images.clone()),
    }
    times = interleave(work, rounds=ROUNDS)
    best, middle = (Row(name, *(times[case][rank] for case in work)) for rank in (0, ROUNDS // 2))
    return best, middle


def main() -> None:
    path = json_path("Augmentation of a whole batch against one image at a time.")
    torch.set_num_threads(1)
    random.seed(0)
    noise = torch.rand(N_IMAGES, 3, SIDE + 4, SIDE + 4, generator=make_generator(0))
    images = (avg_pool2d(noise, 5, stride=1) * 255).to(torch.uint8)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    best: list[Row] = []
    middle: list[Row] = []
    for device in devices:
        for case, learned in (("crop, flip, cutout", False), ("with AutoAugment", True)):
            rows = measure(f"{case}, {device}", images.to(device), learned)
            best.append(rows[0])
            middle.append(rows[1])
    show(f"Minima of {ROUNDS} rounds, ms per batch of {N_IMAGES} (the rows of --json)", best)
    show(f"Medians of {ROUNDS} rounds", middle)
    for row in middle:
        rival, ours = (1e3 * N_IMAGES / taken for taken in (row.rival, row.ours))
        print(f"{row.name}: {rival:,.0f} images/s one by one, {ours:,.0f} images/s here")
    if path:
        save(path, best)


if __name__ == "__main__":
    main()
