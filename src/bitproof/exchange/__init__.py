"""Ways to and from other people's formats: ONNX out and in."""

from bitproof.exchange.network_files import open_network
from bitproof.exchange.onnx_import import import_onnx, is_onnx

__all__ = ["import_onnx", "is_onnx", "open_network"]
