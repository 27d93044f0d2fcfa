"""Integer networks from files of either kind: those that bitproof wrote, and quantized ONNX."""

from pathlib import Path

from bitproof.exchange.onnx_import import import_onnx, is_onnx
from bitproof.quant import IntegerNetwork, load_network


def open_network(path: Path) -> IntegerNetwork:
    """Return the network in `path.onnx`, or in the two files that `save_network` wrote.

    Raises:
        AdapterError: it is an ONNX file, and the package onnx is not installed.
        ExchangeError: the ONNX file has no form as an integer network.
        WeightsError: the files are missing or damaged.
    """
    return import_onnx(path) if is_onnx(path) else load_network(path)
