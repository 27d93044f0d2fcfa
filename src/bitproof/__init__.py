"""bitproof: take a neural network from float training to hardware with broken bits."""

__version__ = "0.1.0"
