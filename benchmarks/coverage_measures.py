"""What is measured of one model: capture, quantization, agreement, and every verb after it."""

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from public_models.entry import Entry
from public_models.waking import first_tensor, wake_
from torch import Tensor, nn
from torch_int8 import BATCH, quantize_by_torch

import bitproof as bp
from bitproof.core.errors import BitproofError, SpecError
from bitproof.core.rng import make_generator
from bitproof.quant import trace

CALIBRATION = 32
TEST = 128
VERBS = ("corrupt", "attack", "inject", "store")
Row = dict[str, Any]


def measure(entry: Entry, *, rival: bool) -> Iterator[Row]:
    """Yield what is found of one model, bit by bit, so that a kill loses only what it stopped."""
    yield {"stage": "build"}
    torch.manual_seed(0)
    model = entry.build().eval()
    samples = entry.inputs(CALIBRATION, part="calibration")
    tests = entry.inputs(TEST, part="test")
    wake_(model, list(samples.split(BATCH)), head=entry.task != "values")
    with torch.no_grad():
        wanted = _run(model, tests)
    yield {"parameters": sum(one.numel() for one in model.parameters()), "stage": "quantize"}
    yield from _ours(entry, model, samples, tests, wanted)
    if rival:
        yield {"stage": "rival"}
        yield _rival(entry, model, samples, tests, wanted)
    yield {"stage": "done"}


def _ours(
    entry: Entry, model: nn.Module, samples: Tensor, tests: Tensor, wanted: Tensor
) -> Iterator[Row]:
    start = time.perf_counter()
    network, found = _attempt(lambda: bp.quantize(model, samples, _scheme()))
    yield {"quantized": found, "quantize_s": round(time.perf_counter() - start, 2)}
    if network is None:
        return
    captured = getattr(network, "captured_by", None)
    yield {"captured_by": captured or getattr(trace(model, samples), "captured_by", "fx")}
    got, found = _attempt(lambda: _run(network, tests))
    if got is None or got.shape != wanted.shape:
        shapes = (
            f"wanted outputs {tuple(wanted.shape)}, got {tuple(got.shape)}"
            if got is not None
            else found
        )
        yield {"quantized": f"run: {shapes}"}
        return
    yield _compare(got, wanted, entry)
    for verb, check in _checks(entry, network, tests, wanted).items():
        yield {"stage": verb}
        yield {verb: _attempt(check)[1]}


def _scheme() -> bp.Scheme:
    try:
        return bp.Scheme.model_validate({"preset": "accurate"})
    except (SpecError, ValueError):  # a version that has no such preset
        weight = bp.AffineQuantizer(per_channel=True, symmetric=True, signed=True, margin=0.0)
        return bp.Scheme(weight=weight, bias=None)


def _attempt(act: Callable[[], Any]) -> tuple[Any, str]:
    """Return a result and "ok", or None and the reason in one line; tracebacks are marked."""
    try:
        return act(), "ok"
    except BitproofError as error:
        return None, f"{type(error).__name__}: {_line(error)}"
    except Exception as error:  # whatever is no BitproofError is what we look for
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/bitproof/" in frame.filename] or list(frames)
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return None, f"TRACEBACK {type(error).__name__} at {place}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:4000]


def _run(model: Callable[[Tensor], object], samples: Tensor) -> Tensor:
    """Return the logits of all samples, in batches of the size that the rival was exported for."""
    return torch.cat([first_tensor(model(batch)).detach() for batch in samples.split(BATCH)])


def _compare(got: Tensor, wanted: Tensor, entry: Entry, prefix: str = "") -> Row:
    noise = (got.double() - wanted.double()).square().sum()
    ratio = float(10 * torch.log10(wanted.double().square().sum() / noise.clamp(min=1e-30)))
    row: Row = {f"{prefix}db": round(ratio, 2)}
    if entry.task != "values":
        ours, floats = _answers(got, entry), _answers(wanted, entry)
        right = (ours == floats).flatten(1).double().mean(1) if ours.ndim > 1 else ours == floats
        row[f"{prefix}agreement"] = float(right.double().mean())
        row[f"{prefix}right"] = [round(float(one), 4) for one in right]
        row["answers"] = len(floats.unique())
    return row


def _answers(outputs: Tensor, entry: Entry) -> Tensor:
    return outputs.argmax(-1 if entry.channel_last else 1)


def _rival(entry: Entry, model: nn.Module, samples: Tensor, tests: Tensor, wanted: Tensor) -> Row:
    def compare() -> Row:
        rival = quantize_by_torch(model, samples)
        with torch.no_grad():
            return _compare(_run(rival, tests), wanted, entry, "rival_")

    row, found = _attempt(compare)
    return {"rival": found.removeprefix("TRACEBACK "), **(row or {})}


def _checks(
    entry: Entry, network: bp.IntegerNetwork, tests: Tensor, wanted: Tensor
) -> dict[str, Callable[[], object]]:
    """Return each verb after quantization, as a call that raises where it falls short."""
    labels = wanted if entry.task == "values" else _answers(wanted, entry)

    def data(n: int) -> bp.Dataset:
        classes = wanted.shape[-1 if entry.channel_last else 1] if entry.task == "classes" else None
        return bp.Dataset.from_arrays(tests[:n], labels[:n], n_classes=classes)

    def corrupt() -> None:
        generator = make_generator(0, "chip", 0)
        broken = bp.corrupt(network, bp.RandomFlips(ber=1e-3), generator=generator)
        assert first_tensor(broken(tests[:8])).isfinite().all(), "outputs are not finite"

    def attack() -> None:
        found = bp.attack(network, bp.LinfPGD(epsilon=8 / 255, steps=3), data(8))
        assert found.shape == tests[:8].shape, f"wanted inputs, got shape {tuple(found.shape)}"
        points = tests[:2].clone().requires_grad_()
        logits = first_tensor(network.differentiable(points))
        (gradient,) = torch.autograd.grad(logits.square().sum(), points)
        assert bool(gradient.any()), "gradients of the inputs are zero"

    def inject() -> None:
        summary = bp.inject(network, data(8), bp.Injection(trials=20, images=8))
        trials = summary["totals"][0]["trials"]
        assert trials == 20, f"wanted 20 trials, got {trials}"

    def store() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            bp.save_network(network, Path(scratch) / "network")
            again = bp.load_network(Path(scratch) / "network")
        first, second = (first_tensor(one(tests[:8])) for one in (network, again))
        assert torch.equal(first, second), "outputs changed on the way through the file"

    checks = dict(zip(VERBS, (corrupt, attack, inject, store), strict=True))
    if entry.vocabulary:
        del checks["attack"]
    return checks
