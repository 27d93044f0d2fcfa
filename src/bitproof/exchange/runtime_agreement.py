"""An imported network beside onnxruntime, on the same images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.agreement import (
    Agreement,
    compare_outputs,
    open_session,
    output_step,
    run_session,
)
from bitproof.exchange.onnx_import import InputScaling
from bitproof.quant.network import IntegerNetwork

BATCH = 250
DTYPES: dict[str, Any] = {
    **{"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16},
    **{"tensor(uint8)": np.uint8, "tensor(int8)": np.int8},
}
"""Of what models take, as onnxruntime calls them."""


def runtime_agreement(
    network: IntegerNetwork,
    path: Path,
    images: Float[Tensor, "n *features"],
    *,
    scaling: InputScaling | None = None,
    threads: int = 1,
) -> tuple[Agreement, Float[Tensor, "n *outputs"]]:
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
        ExchangeError: it does not run the file on these images.
    """
    session, scaling = open_session(path, threads=threads), scaling or InputScaling()
    source = session.get_inputs()[0]
    if source.type not in DTYPES:
        raise ExchangeError(f"{path}: wanted an input of real numbers or bytes, got {source.type}")
    fixed = source.shape[0] if isinstance(source.shape[0], int) else None
    ours, theirs = [], []
    for block in torch.split(images, fixed or BATCH):
        given = scaling.apply(block).numpy()
        dtype = np.dtype(DTYPES[source.type])
        if dtype.kind in "iu":
            given = np.rint(given * 255 if scaling.is_plain else given)
        ours.append(network(block))
        theirs.append(run_session(session, given.astype(dtype), path))
    outputs = torch.cat(theirs)
    return compare_outputs(torch.cat(ours), outputs, step=output_step(network)), outputs
