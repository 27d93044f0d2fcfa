"""`bitproof import`: a quantized ONNX model becomes an integer network on disk."""

import time
from pathlib import Path

import torch
import typer

from bitproof.cli.outcome import report_problems
from bitproof.core.errors import AdapterError, ExchangeError, shorten
from bitproof.data import DATA
from bitproof.evaluation import IntegerModel, count
from bitproof.exchange.onnx_import import InputScaling, import_onnx
from bitproof.exchange.runtime_agreement import runtime_agreement
from bitproof.quant import IntegerNetwork, save_network
from bitproof.quant.network_facts import network_facts, network_title
from bitproof.recipe.stored_networks import check_fit


def run_import(
    file: Path,
    *,
    out: Path | None,
    mean: str,
    std: str,
    ends: str,
    shape: str,
    data: str,
    data_dir: Path | None,
) -> None:
    """Import a model, write the network, and print what it is; with data, how right it is."""
    with report_problems():
        means, stds = (_numbers(text, name) for text, name in ((mean, "mean"), (std, "std")))
        pair = _numbers(ends, "range")
        if pair is not None and len(pair) != 2:
            raise ExchangeError(f"range: wanted two numbers, such as 0,255, got {shorten(ends)}")
        sizes = _numbers(shape, "shape")
        network = import_onnx(
            file,
            mean=means,
            std=stds,
            input_range=None if pair is None else (pair[0], pair[1]),
            input_shape=None if sizes is None else [int(size) for size in sizes],
        )
        typer.echo(network_title(network))
        for name, fact in network_facts(network).items():
            if name != "fidelity":
                typer.echo(f"{name}: {fact}")
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            save_network(network, out)
            typer.echo(f"written: {out}.json, {out}.safetensors")
        if data:
            scaling = InputScaling.of(means, stds, None if pair is None else (pair[0], pair[1]))
            _measure(network, file, scaling, data=data, data_dir=data_dir)


def _measure(
    network: IntegerNetwork, file: Path, scaling: InputScaling, *, data: str, data_dir: Path | None
) -> None:
    """Print accuracy on test images, and how onnxruntime agrees where it is installed."""
    test = DATA.build(data).load(data_dir).test
    check_fit(str(file), network, test)
    start = time.perf_counter()
    tally = count(IntegerModel(network).predict, test)
    took = time.perf_counter() - start
    typer.echo(f"accuracy: {100 * tally.acc:.2f} % of {len(test):,} images, {took:.1f} s")
    try:
        start = time.perf_counter()
        found, outputs = runtime_agreement(network, file, test.inputs(), scaling=scaling)
    except AdapterError as error:
        typer.echo(f"not compared with onnxruntime ({error})")
        return
    typer.echo(found.line)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and test.labels.ndim == 1:
        right = int((outputs.argmax(1) == torch.as_tensor(test.labels).cpu()).sum())
        typer.echo(f"accuracy in onnxruntime: {100 * right / len(test):.2f} %")


def _numbers(text: str, name: str) -> list[float] | None:
    """Return numbers with commas between, None for none."""
    if not text:
        return None
    try:
        return [float(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        raise ExchangeError(
            f"{name}: wanted numbers with commas, such as 0.5,0.5, got {shorten(text)}"
        ) from None
