"""Ways to and from other people's formats: ONNX out and in.

`export_onnx` writes an integer network, `check_onnx` compares it with what ONNX Runtime makes of
the file.
"""

from bitproof.exchange.agreement import Agreement, check_onnx
from bitproof.exchange.export import Exported, export_onnx

__all__ = ["Agreement", "Exported", "check_onnx", "export_onnx"]
