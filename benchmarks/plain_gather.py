"""The stand-in for published emulators: a plain-C kernel that reads every product from a table.

It is compiled when a benchmark starts, into a temporary folder. Images are shared among OpenMP's
threads, a slice each, as published kernels do; the OpenMP is that which torch has loaded. The sums
are those that others are compared with.
"""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor
from torch.nn.modules.utils import _pair

from bitproof.core.errors import QuantizationError
from bitproof.kernels.geometry import Geometry

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
FIELDS = (
    *("channels", "height", "width", "filters", "kernel_height", "kernel_width"),
    *("stride", "pad_y", "pad_x", "out_height", "out_width", "padding_word"),
)


class Shape(ctypes.Structure):
    """Sizes of one convolution, as the C file has them."""

    _fields_ = tuple((name, ctypes.c_int64) for name in FIELDS)


class PlainGather:
    """The compiled kernel."""

    def __init__(self) -> None:
        compiler = os.environ.get("CC", "cc")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "plain_gather.so"
            try:
                subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(target)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise QuantizationError(
                    f"wanted a C compiler as '{compiler}', got {error}"
                ) from None
            self._function = ctypes.CDLL(str(target)).plain_gather
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._function.argtypes = [*[pointer] * 5, number, number]

    def sums(
        self,
        words: UInt8[Tensor, "n c h w"],
        weight: UInt8[Tensor, "m c i j"],
        table: Int32[Tensor, "256 256"],
        *,
        move: Geometry,
        padding_word: int = 0,
    ) -> Int32[Tensor, "n m y x"]:
        """Return the sums of products, with as many threads as torch takes.

        Args:
            words: patterns that go in; they are not padded yet.
            weight: patterns of the weights.
            table: products by the patterns of word and weight.
            move: strides that are equal, padding, no dilation, one group.
            padding_word: the pattern that padding consists of.
        """
        n, channels, height, width = words.shape
        filters, _, *kernel = weight.shape
        down, across = _pair(move.padding)
        out_height = (height + 2 * down - kernel[0]) // move.stride[0] + 1
        out_width = (width + 2 * across - kernel[1]) // move.stride[0] + 1
        assert weight.shape[1] == channels, (weight.shape, words.shape)
        assert move == Geometry((move.stride[0],) * 2, (down, across)), move
        assert words.is_contiguous(), words.stride()
        assert weight.is_contiguous(), weight.stride()
        assert table.is_contiguous(), table.stride()
        sizes = (channels, height, width, filters, *kernel, move.stride[0], down, across)
        shape = Shape(*sizes, out_height, out_width, padding_word)
        out = torch.empty(n, filters, out_height, out_width, dtype=torch.int32)
        tensors = (words, weight, table, out)
        addresses = [ctypes.byref(shape), *(tensor.data_ptr() for tensor in tensors)]
        code = self._function(*addresses, n, min(torch.get_num_threads(), n))
        assert code == 0, "out of memory"
        return out
