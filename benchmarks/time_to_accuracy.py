"""Seconds to 94 % on CIFAR-10 with ResNet-18, and a training step against the bare passes.

rival: the step of the usual loop: images one by one through Pillow, a DataLoader of two workers.
ours:  that of `train_`, data on the device.
limit: forward, backward and optimizer on one batch that is there.
Each schedule is a whole run; the seconds are those of training, without the test set. Wants a
CUDA GPU and CIFAR-10; `--images 64 --test-images 64 --epochs 1` tries it anywhere.
"""

import argparse
import time
from pathlib import Path

import torch
from table import Row, save, show
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from usual_training import OneByOne

from bitproof.core.rng import make_generator
from bitproof.data import DATA, Augmentation, Dataset, Splits
from bitproof.data.augment import Flip, PadCrop
from bitproof.evaluation import FloatModel
from bitproof.evaluation.evaluation import count
from bitproof.models import ResNet18
from bitproof.train import Optimization, train_

GOAL = 0.94
AUGMENTATION: tuple[Augmentation, ...] = (PadCrop(padding=4), Flip())
REPEATS = 30
"""Steps that the time of one is taken from."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to 94 % on CIFAR-10 with ResNet-18.")
    parser.add_argument("--epochs", type=int, nargs="+", default=[12, 16, 20])
    parser.add_argument("--images", type=int, help="train on the first images only")
    parser.add_argument("--test-images", type=int, help="test on the first images only")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = {"train_size": options.images or "none", "test_size": options.test_images or "none"}
    source = DATA.build({"kind": "cifar10", "validation_fraction": 0.0, **sizes})
    splits = source.load(options.data_dir).to(device)
    for epochs in options.epochs:
        steps = settings(epochs, compiled=options.compiled)
        seconds, acc = train(splits, steps)
        reached = "reached" if acc >= GOAL else "missed"
        print(f"{epochs} epochs: {seconds:.1f} s, {100 * acc:.2f} %, {100 * GOAL:g} % {reached}")
    rows = [step_times(splits.train, settings(1, compiled=options.compiled))]
    show("ms per step of 512 images; images per second are 512,000 over that", rows)
    if options.json:
        save(options.json, rows)


def settings(epochs: int, *, compiled: bool) -> Optimization:
    return Optimization(
        epochs=epochs,
        batch_size=512,
        learning_rate=0.8,
        schedule="one_cycle",
        nesterov=True,
        label_smoothing=0.1,
        precision="bfloat16",
        compiled=compiled,
    )


def network(data: Dataset) -> nn.Module:
    model = ResNet18().build(
        in_channels=3, image_size=32, n_classes=10, generator=make_generator(0, "weights")
    )
    return model.to(data.labels.device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train(splits: Splits, steps: Optimization) -> tuple[float, float]:
    """Return the seconds of a training, and the test accuracy that it ends with."""
    model, device = network(splits.train), splits.train.labels.device
    wait(device)
    start = time.perf_counter()
    generator = make_generator(0, "train")
    train_(model, splits.train, steps, generator=generator, augmentation=AUGMENTATION)
    wait(device)
    seconds = time.perf_counter() - start
    return seconds, count(FloatModel(model).predict, splits.test).acc


def step_times(data: Dataset, steps: Optimization) -> Row:
    """Return milliseconds per step of the usual loop, of ours, and of the passes alone."""
    some = data.first(min(len(data), REPEATS * steps.batch_size))
    count_of_steps = -(-len(some) // steps.batch_size)
    model, device = network(data), data.labels.device

    def ours() -> None:
        train_(model, some, steps, generator=make_generator(1), augmentation=AUGMENTATION)

    optimizer = steps.build(model.parameters())

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = cross_entropy(model(inputs), labels, label_smoothing=steps.label_smoothing)
        loss.backward()
        optimizer.step()

    def usual() -> None:
        loader = DataLoader(OneByOne(some.to("cpu")), steps.batch_size, num_workers=2)
        for inputs, labels in loader:
            batch = inputs.to(device, memory_format=torch.channels_last)
            step(batch, labels.to(device))

    resident = some.inputs(slice(0, steps.batch_size))
    resident = resident.contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        for _ in range(count_of_steps):
            step(resident, some.labels[: steps.batch_size])

    model.train()
    bare()  # warms up
    taken = []
    for work in (usual, ours, bare):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        taken.append(1e3 * (time.perf_counter() - start) / count_of_steps)
    return Row("ResNet-18 training step", *taken)


if __name__ == "__main__":
    main()
