"""An imported network beside onnxruntime, on the same images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.exchange.onnx_import import InputScaling
from bitproof.exchange.onnx_library import onnx_runtime
from bitproof.quant.network import IntegerNetwork

BATCH = 250


@dataclass(frozen=True)
class RuntimeAgreement:
    """How two executions of one model agree.

    Example:
        >>> RuntimeAgreement(images=200, same_outputs=190, same_answers=200, off=0.24).line
        'onnxruntime on 200 images: 95.00 % the same in every bit, 100.00 % the same answers'
    """

    images: int
    same_outputs: int
    """Images whose outputs are equal in every bit."""
    same_answers: int
    """Images whose largest output is the same one."""
    off: float
    """Largest distance of two outputs, in their units."""

    @property
    def line(self) -> str:
        """The shares in words."""
        same, answers = (100 * n / self.images for n in (self.same_outputs, self.same_answers))
        return (
            f"onnxruntime on {self.images:,} images: {same:.2f} % the same in every bit, "
            f"{answers:.2f} % the same answers"
        )


def runtime_agreement(
    network: IntegerNetwork,
    path: Path,
    images: Float[Tensor, "n *features"],
    *,
    scaling: InputScaling | None = None,
    threads: int = 1,
) -> tuple[RuntimeAgreement, Float[Tensor, "n *outputs"]]:
    """Compare a network with onnxruntime's execution of the file that it came from.

    Args:
        network: what `import_onnx` made of the file.
        path: the file.
        images: in [0, 1].
        scaling: what the model takes for 0 and 1, as the import was told.
        threads: of onnxruntime.

    Returns:
        The agreement, and onnxruntime's outputs.

    Raises:
        AdapterError: onnxruntime is not installed.
    """
    ours, theirs = [], []
    for block, outputs in _run(path, images, scaling or InputScaling(), threads):
        ours.append(network(block))
        theirs.append(outputs)
    mine, other = torch.cat(ours), torch.cat(theirs)
    same = (mine == other).flatten(1).all(1)
    answers = mine.flatten(1).argmax(1) == other.flatten(1).argmax(1)
    found = RuntimeAgreement(
        len(images), int(same.sum()), int(answers.sum()), float((mine - other).abs().max())
    )
    return found, other


def _run(
    path: Path, images: Tensor, scaling: InputScaling, threads: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of images with what onnxruntime gives for them."""
    ort = onnx_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    fixed = source.shape[0] if isinstance(source.shape[0], int) else None
    for block in torch.split(images, fixed or BATCH):
        given = scaling.apply(block).numpy()
        if source.type != "tensor(float)":
            given = np.rint(given * 255 if scaling.is_plain else given).astype(np.uint8)
        yield block, torch.from_numpy(np.asarray(session.run(None, {source.name: given})[0]))
