"""Ways to and from other people's formats: ONNX out and in."""
