"""Campaigns over the weights of a BERT-like classifier, an LSTM and a U-Net: which layers count.

Each network learns a small task of its own in seconds, is quantized with the preset `accurate`, and
meets single bit flips in its weights; the table has one line for each layer. Nothing is fetched.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import bitproof as bp
from bitproof.core.files import write_text
from bitproof.core.rng import make_generator

VOCABULARY, LENGTH, WORDS = 32, 12, 3


class SmallBert(nn.Module):
    """Token and place embeddings, two encoder layers, a pooled first token."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores of the words."""
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        result: Tensor = self.head(torch.tanh(self.pool(self.encoder(x)[:, 0])))
        return result


class SmallLstm(nn.Module):
    """A signal, sample by sample, and the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 24, batch_first=True), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of the frequencies."""
        result: Tensor = self.head(self.rnn(x.transpose(1, 2))[0][:, -1])
        return result


class SmallUnet(nn.Module):
    """One step down and up, with a skip and a transposed convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = self._block(1, width)
        self.inner = self._block(width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last, self.head = self._block(2 * width, width), nn.Conv2d(width, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of both classes for every pixel."""
        wide = self.first(x)
        deep = self.up(self.inner(functional.max_pool2d(wide, 2)))
        result: Tensor = self.head(self.last(torch.cat([wide, deep], 1)))
        return result


def sentences(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens, and which of the first three words is the most frequent."""
    tokens = torch.randint(WORDS, VOCABULARY, (n, LENGTH), generator=generator)
    labels = torch.randint(WORDS, (n,), generator=generator)
    places = torch.rand(n, LENGTH, generator=generator).argsort(1)
    for number in range(4):
        tokens[torch.arange(n), places[:, number]] = labels
    tokens[torch.arange(n), places[:, 5]] = (labels + 1) % WORDS
    return tokens, labels


def signals(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return signals of four channels, and which of three frequencies they have."""
    labels = torch.randint(3, (n,), generator=generator)
    phase = torch.rand(n, 4, 1, generator=generator)
    time = torch.arange(16) / 16
    waves = torch.sin(2 * torch.pi * (time * (labels[:, None, None] + 1) + phase))
    noise = torch.rand(n, 4, 16, generator=generator)
    return (waves * 0.4 + 0.5 + (noise - 0.5) * 0.2).clamp(0, 1), labels


def squares(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noisy images of a square, and its pixels."""
    masks = torch.zeros(n, 16, 16, dtype=torch.int64)
    for mask in masks:
        top, left, size = (int(v) for v in torch.randint(3, 8, (3,), generator=generator))
        mask[top : top + size, left : left + size] = 1
    noise = torch.rand(n, 16, 16, generator=generator)
    return (0.35 * masks + 0.65 * noise)[:, None], masks


Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Draw, int]] = {
    "BERT-like": (SmallBert, sentences, 400),
    "LSTM": (SmallLstm, signals, 900),
    "U-Net": (SmallUnet, squares, 120),
}
"""How each is built and what it sees, and steps of training."""


def train(model: nn.Module, draw: Draw, steps: int) -> None:
    """Train on fresh batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(steps):
        inputs, labels = draw(64, make_generator(0, "train", step))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    model.eval()


def campaign(name: str, trials: int) -> dict[str, Any]:
    """Return the summary of one network's campaign, with its accuracy in floats and integers."""
    build, draw, steps = NETWORKS[name]
    torch.manual_seed(0)
    model = build()
    train(model, draw, steps)
    calibration, _ = draw(256, make_generator(0, "calibration"))
    inputs, labels = draw(256, make_generator(0, "test"))
    data = bp.Dataset.from_arrays(inputs, labels, name=name)
    network = bp.quantize(model, calibration, bp.Scheme.model_validate({"preset": "accurate"}))
    rows = bp.evaluate({"float": model, "int8": network}, data, bp.Evaluation(threats=[bp.Clean()]))
    found = bp.inject(network, data, bp.Injection(images=64, trials=trials))
    accs = {row.variant: row.value for row in rows if row.metric == "acc"}
    return {"name": name, "acc": accs, "layers": found["layers"], "totals": found["totals"]}


def _percent(row: dict[str, Any]) -> str:
    low, rate, high = (100 * end for end in row["rates"]["sdc1"])
    return f"{rate:6.2f} % ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--only", choices=NETWORKS, nargs="*", default=list(NETWORKS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [campaign(name, options.trials) for name in options.only]
    for one in found:
        accs = ", ".join(f"{name} {100 * acc:.1f} %" for name, acc in one["acc"].items())
        print(f"\n{one['name']}: {accs}; SDC-1 {_percent(one['totals'][0])}")
        for layer in one["layers"]:
            print(f"  {layer['layer']:38} {layer['trials']:5} trials   {_percent(layer)}")
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
