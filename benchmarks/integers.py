"""Inference on integers: images a second of one network in one process, all ways taking turns.

rival: the fastest of the others: float32 as torch runs it (plain and channels last), onnxruntime in
       floats and in int8 (QDQ, per channel, calibrated on the same images), and torch's own int8
       network (torchao's pt2e recipe for x86, compiled by inductor, which fuses oneDNN's kernels).
ours:  `quantize(model, images, Scheme("accurate"))`, bit-exact.
limit: the 8-bit products of all layers at the rate of the fastest of them, measured here.
Weights are random, which does not change the time. Medians. `--all` runs batches of 1 and of 64 on
1 and on 2 threads; without it, 64 images on one thread.

What is not installed is left out with a line: `pip install --no-deps torchao==0.18.0` and
`pip install onnx onnxruntime`. torchao compiles each network once (a C++ compiler, a minute).
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from table import Row, interleave, save, show
from torch import Tensor, nn
from torch.nn import functional
from torch_int8 import quantize_by_torch

from bitproof.core.rng import make_generator
from bitproof.models import EfficientNetLite0, ImageModelSpec, MobileNetV2, ResNet18, ResNet20
from bitproof.quant import IntegerNetwork, Node, Scheme, quantize, run_integers
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op
from bitproof.quant.operations import MAC_OPS

Predict = Callable[[Tensor], object]
ROUNDS = 9
CALIBRATION = 64
CALLS = 16
"""In a turn, of one image."""
REST = 0.1
"""Seconds between two turns: until the threads of other runtimes sleep."""


class SmallTransformer(nn.Module):
    """A vision transformer for 32x32 images: patches of 4, width 192, six blocks of three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 4, 4)
        self.place = nn.Parameter(torch.randn(64, 192) * 0.02)
        self.blocks = nn.ModuleList(nn.ModuleDict(self._block()) for _ in range(6))
        self.head = nn.Sequential(nn.LayerNorm(192), nn.Linear(192, 10))

    @staticmethod
    def _block() -> dict[str, nn.Module]:
        return {
            "norm": nn.LayerNorm(192),
            "qkv": nn.Linear(192, 576),
            "out": nn.Linear(192, 192),
            "mlp": nn.Sequential(
                nn.LayerNorm(192), nn.Linear(192, 768), nn.GELU(), nn.Linear(768, 192)
            ),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            qkv = block["qkv"](block["norm"](x)).reshape(x.shape[0], 64, 3, 3, 64)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            seen = functional.scaled_dot_product_attention(q, k, v)
            x = x + block["out"](seen.transpose(1, 2).reshape(x.shape[0], 64, 192))
            x = x + block["mlp"](x)
        logits: Tensor = self.head(x.mean(1))
        return logits


SPECS: dict[str, ImageModelSpec] = {
    "ResNet-20": ResNet20(),
    "ResNet-18": ResNet18(),
    "MobileNetV2": MobileNetV2(),
    "EfficientNet-Lite0": EfficientNetLite0(),
}


def models() -> Iterator[tuple[str, nn.Module]]:
    """Yield the networks."""
    for name, spec in SPECS.items():
        generator = make_generator(0)
        yield name, spec.build(in_channels=3, image_size=32, n_classes=10, generator=generator)
    torch.manual_seed(0)
    yield "small ViT", SmallTransformer()


def by_torch(model: nn.Module, images: Tensor, batch: int) -> dict[str, Predict]:
    """Return torch's own int8 network, compiled; none where torchao is not installed."""
    try:
        return {"torchao": quantize_by_torch(model, images, batch=batch, compiled=True)}
    except ImportError:
        print("torchao is not installed: left out")
        return {}


def by_onnxruntime(model: nn.Module, images: Tensor, threads: int) -> dict[str, Predict]:
    """Return onnxruntime's networks, in floats and in int8; none where it is not installed."""
    try:
        import onnxruntime as ort  # noqa: PLC0415
        from onnxruntime import quantization as q  # noqa: PLC0415
    except ImportError:
        print("onnx and onnxruntime are not installed: left out")
        return {}
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3

    class Reader(q.CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.parts = iter([{"x": images.numpy()}])

        def get_next(self) -> object:
            return next(self.parts, None)

    found: dict[str, Predict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        floats, ready, words = (str(Path(scratch) / f"{n}.onnx") for n in ("f", "p", "q"))
        names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}}}
        torch.onnx.export(model, (images[:2],), floats, dynamo=False, opset_version=17, **names)
        q.quant_pre_process(floats, ready, skip_symbolic_shape=True)
        q.quantize_static(ready, words, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True)
        for name, path in (("onnxruntime", floats), ("onnxruntime int8", words)):
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[name] = lambda x, session=session: session.run(None, {"x": x.numpy()})
    return found


def products(network: IntegerNetwork, image: Tensor) -> int:
    """Return how many products one image takes in layers with weights."""
    total = 0

    def count(node: Node, operands: list[Tensor]) -> Tensor:
        nonlocal total
        out = integer_op(network, node, operands, image)
        weight = network.tensors.get(node.key("weight"))
        if weight is not None and node.op in MAC_OPS:
            total += out.numel() * weight.codes[0].numel()
        return out

    execute(network.nodes, count)
    return total


def compare(name: str, model: nn.Module, *, batch: int, threads: int) -> Row:
    """Return the row of one network, and print all ways."""
    torch.set_num_threads(threads)
    images = torch.rand(CALIBRATION, 3, 32, 32, generator=make_generator(0, "images"))
    model = model.eval()
    network = quantize(model, images, Scheme("accurate"))
    x = images[:batch]
    assert torch.equal(network(x), run_integers(network, x, native=False))
    last = x.contiguous(memory_format=torch.channels_last)
    twin = model.to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], object]] = {
        "float32": partial(model, x),
        "float32, channels last": partial(twin, last),
        "ours": partial(network, x),
    }
    ways |= {n: partial(one, x) for n, one in by_onnxruntime(model, images, threads).items()}
    ways |= {n: partial(one, x) for n, one in by_torch(model, images, batch).items()}
    with torch.no_grad():
        calls = max(1, CALLS // batch)
        times = interleave(ways, rounds=ROUNDS, calls=calls, rest=REST)
    taken = {way: found[len(found) // 2] for way, found in times.items()}
    title = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    print(f"{title}: images/s")
    for way, ms in taken.items():
        speed = f"{1e3 * batch / ms:10.0f}   ours is {ms / taken['ours']:5.2f} times as fast"
        print(f"    {way:24} {speed}")
    fastest = min(ms for way, ms in taken.items() if way != "ours")
    limit = 1e3 * batch * products(network, images[:1]) / (threads * peak())
    return Row(title, fastest, taken["ours"], limit)


def peak() -> float:
    """Return the products a second of a layer that the arithmetic alone holds up, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    layer = nn.Conv2d(256, 256, 3, padding=1).eval()
    images = torch.rand(16, 256, 8, 8, generator=make_generator(0))
    network = quantize(layer, images, Scheme("accurate"))
    node = network.nodes[-1]
    words = (images * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
    run = partial(network.accumulator(node).run, [words], None)
    (best, *_) = interleave({"ours": run}, rounds=20)["ours"]
    torch.set_num_threads(threads)
    return 16 * 64 * 256 * 256 * 9 / (best / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Integer inference beside the fastest others.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--all", action="store_true", help="batches of 1 and 64, 1 and 2 threads")
    parser.add_argument("--only", default="", metavar="NAME", help="networks whose name holds it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = [
        compare(name, model, batch=batch, threads=threads)
        for threads in ((1, 2) if options.all else (1,))
        for batch in ((64, 1) if options.all else (64,))
        for name, model in models()
        if options.only in name
    ]
    show("Medians: the fastest of the others, ours, the products alone", rows)
    if options.json:
        save(options.json, rows)


if __name__ == "__main__":
    main()
