"""Whether ONNX Runtime gives the logits of the network that was exported, image by image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from numpy.typing import NDArray
from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_library import onnx_runtime
from bitproof.quant import IntegerNetwork, Node
from bitproof.quant.operations import MAC_OPS

BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """A network and an ONNX file on the same images."""

    images: int
    identical: int
    """Images whose logits are equal in every bit."""
    same_top1: int
    """Images whose largest output is the same one."""
    numbers: int
    """Outputs of all images."""
    different: int
    """Outputs that are not equal in every bit."""
    largest: float
    """Largest difference of an output, in its own unit."""
    largest_steps: float | None
    """The same in steps of the output: of its words, or of the last sums; None where something else
    makes the output."""

    @property
    def exact(self) -> bool:
        """Tell whether all is equal."""
        return self.different == 0

    @property
    def line(self) -> str:
        """The shares in words.

        Example:
            >>> compare_outputs(torch.eye(2), torch.eye(2)).line
            'onnxruntime on 2 images: 100.00 % the same in every bit, 100.00 % the same answers'
        """
        same, answers = (100 * n / self.images for n in (self.identical, self.same_top1))
        return (
            f"onnxruntime on {self.images:,} images: {same:.2f} % the same in every bit, "
            f"{answers:.2f} % the same answers"
        )


def check_onnx(
    network: IntegerNetwork,
    path: Path | str,
    images: Num[Tensor, "n *features"],
    *,
    threads: int = 0,
) -> Agreement:
    """Return how a network and an exported file agree on images, run by ONNX Runtime.

    Args:
        network: what was exported.
        path: the file.
        images: in [0, 1], or tokens.
        threads: of ONNX Runtime; 0: as many as it likes.

    Raises:
        AdapterError: the package onnxruntime is not installed.
        ExchangeError: it does not run the file, or the file gives outputs of another shape.
    """
    session = open_session(path, threads=threads)
    ours, theirs = [], []
    for batch in torch.split(images, BATCH):
        ours.append(network(batch).cpu())
        given = batch.cpu().float() if batch.is_floating_point() else batch.cpu().long()
        theirs.append(run_session(session, given.numpy(), path))
        if theirs[-1].shape != ours[-1].shape:
            shapes = tuple(ours[-1].shape), tuple(theirs[-1].shape)
            raise ExchangeError(f"{path}: wanted outputs of shape {shapes[0]}, got {shapes[1]}")
    return compare_outputs(torch.cat(ours), torch.cat(theirs), step=output_step(network))


def compare_outputs(ours: Tensor, theirs: Tensor, *, step: float | None = None) -> Agreement:
    """Return how two sets of outputs agree.

    Example:
        >>> ours, theirs = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0]])
        >>> found = compare_outputs(ours, theirs, step=0.5)
        >>> found.identical, found.same_top1, found.largest_steps
        (0, 1, 2.0)
    """
    n = len(ours)
    left, right = ours.reshape(n, -1), theirs.reshape(n, -1)
    equal = (left == right) | (left.isnan() & right.isnan())
    gaps = torch.where(equal, torch.zeros_like(left), (left - right).abs())
    largest = float(gaps.max()) if gaps.numel() else 0.0
    axis = 1 if ours.ndim > 1 else 0
    tops = [x.argmax(axis).reshape(n, -1) if ours.ndim > 1 else x > 0 for x in (ours, theirs)]
    same = (tops[0] == tops[1]).reshape(n, -1).all(1)
    return Agreement(
        n,
        int(equal.all(1).sum()),
        int(same.sum()),
        left.numel(),
        int((~equal).sum()),
        largest,
        None if step is None else largest / step,
    )


def output_step(network: IntegerNetwork) -> float | None:
    """Return the step of a network's output, the largest of all channels."""
    last: Node = network.nodes[-1]
    grid = network.grids.get(last.name)
    if grid is not None:
        return float(grid.scale.max())
    if last.op in MAC_OPS:
        return float(network.constants[last.name].multipliers[0].max())
    return None


def open_session(path: Path | str, *, threads: int = 0) -> Any:
    """Return a session of ONNX Runtime on the CPU that runs a file.

    Its kernels for int8 weights are those that never saturate.

    Raises:
        AdapterError: the package onnxruntime is not installed.
        ExchangeError: the file is none that it runs.
    """
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except problems() as error:
        raise ExchangeError(
            f"{path}: ONNX Runtime does not take it ({_first_line(error)})"
        ) from None


def run_session(session: Any, given: NDArray[Any], path: Path | str) -> Tensor:
    """Return the first output of a session for one batch.

    Raises:
        ExchangeError: it does not take the batch, or fails on it.
    """
    try:
        found = session.run(None, {session.get_inputs()[0].name: given})[0]
    except problems() as error:
        raise ExchangeError(f"{path}: {_first_line(error)}") from None
    return torch.from_numpy(np.asarray(found))


def problems() -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises; they have no base of their own."""
    state = onnx_runtime().capi.onnxruntime_pybind11_state
    names = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoModel NoSuchFile NotImplemented"
    return tuple(getattr(state, name) for name in [*names.split(), "RuntimeException"])


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
