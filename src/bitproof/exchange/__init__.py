"""Ways to and from other people's formats: ONNX out and in.

`export_onnx` writes an integer network, `check_onnx` compares it with what ONNX Runtime makes of
the file; `import_onnx` reads a quantized network, `open_network` a file of any kind,
`model_from_onnx` a float model.
"""

from bitproof.exchange.agreement import Agreement, check_onnx
from bitproof.exchange.export import Exported, export_onnx
from bitproof.exchange.network_files import open_network
from bitproof.exchange.onnx_import import import_onnx, is_onnx
from bitproof.exchange.onnx_model import OnnxModel, model_from_onnx

__all__ = [
    "Agreement",
    "Exported",
    "OnnxModel",
    "check_onnx",
    "export_onnx",
    "import_onnx",
    "is_onnx",
    "model_from_onnx",
    "open_network",
]
