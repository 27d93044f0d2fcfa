"""What the C library computes, with the widest instructions of this processor.

Model:  layers of 8-bit words, from words to words (`csrc/int8.h`); sums of two outputs, norms and
        softmaxes (`csrc/requantize.h`, `csrc/rows.h`); and layers that look products up
        (`csrc/level.h`): each product of a stored word and a weight is read from a table of
        256 x 256 entries, `low + 256 * high`, one table a filter, 64 words at once with AVX-512
        VBMI, 32 with AVX2, one elsewhere. Sums are int32 and wrap; all levels give the same bits.
        The library is built with the package where there is a C compiler; where it is absent
        `library()` is None and callers take their plain tensor code. `BITPROOF_KERNELS` chooses a
        level: `vbmi`, `avx2`, `portable` or `none`.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from jaxtyping import Float32, Int8, Int32, Integer, UInt8
from torch import Tensor

from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import (
    Addend,
    AddWords,
    Convolution,
    Int8Convolution,
    Int8Pack,
    Job,
    RemapBytes,
    RemapTerms,
    Requantization,
    RequantizeSums,
    Rows,
)
from bitproof.kernels.map_jobs import (
    AverageWords,
    ChangedConvolution,
    CopyElements,
    PoolWords,
    QuantizeValues,
    StartSums,
)
from bitproof.kernels.plan import Crew, Step
from bitproof.kernels.threads import share

LEVELS = ("portable", "avx2", "vbmi")
"""From the slowest to the fastest, as the library numbers them."""
VARIABLE = "BITPROOF_KERNELS"
"""Environment variable that names the level, or `none`."""
OBJECT = Path(__file__).parent / "_tables.so"
TILE = 256
"""Pixels that the library computes at a time."""
JOBS: frozenset[type[Job]] = frozenset(
    (
        RemapBytes,
        RemapTerms,
        RequantizeSums,
        AddWords,
        Int8Convolution,
        Int8Pack,
        Rows,
        QuantizeValues,
        PoolWords,
        AverageWords,
        CopyElements,
        StartSums,
        ChangedConvolution,
    )
)
"""All that one call does."""


@dataclass(frozen=True)
class Library:
    """The C library at one level of instructions.

    Example:
        >>> from bitproof.kernels.library import library
        >>> found = library()
        >>> found is None or found.level in ("portable", "avx2", "vbmi")
        True
    """

    level: str
    """One of `LEVELS`."""
    functions: ctypes.CDLL

    @property
    def number(self) -> int:
        """How the library calls the level."""
        return LEVELS.index(self.level)

    def convolve(self, job: Convolution, out: Tensor) -> Tensor:
        """Return `out`, the output of a described convolution, once it is computed."""
        if not out.numel():
            return out
        filters, threads = out.shape[1], torch.get_num_threads()
        tiles = -(-out.numel() // filters // TILE)
        # Threads share tiles; where these are few, filters: then each reads all words.
        by_filter = tiles < min(threads, filters) or (
            tiles % threads != 0 and tiles < 4 * threads and filters >= 16 * threads
        )

        def part(first: int, last: int) -> int:
            ranges = (0, tiles, first, last) if by_filter else (first, last, 0, filters)
            code: int = self.functions.bitproof_convolve(self.number, ctypes.byref(job), *ranges)
            return code

        share(part, filters if by_filter else tiles, job.work)
        return out

    def run(self, job: Job) -> None:
        """Do a described job, on as many threads as torch takes."""
        if job.work:
            place = ctypes.byref(job)
            do = partial(self.functions.bitproof_do, self.number, job.number, place)
            share(do, job.pieces, job.work)

    def remap(
        self, words: UInt8[Tensor, "*shape"], table: Integer[Tensor, "256"]
    ) -> Integer[Tensor, "*shape"]:
        """Return `table[words]`, in the memory layout of the words."""
        return self._done(*RemapBytes.describe(words, table))

    def remap_terms(
        self, words: UInt8[Tensor, "n c h w"], tables: UInt8[Tensor, "r 256"]
    ) -> UInt8[Tensor, "n rc h w"]:
        """Return dense words through each table, one set of channels after another."""
        return self._done(*RemapTerms.describe(words, tables))

    def requantize(
        self,
        sums: Float32[Tensor, "n m h w"],
        how: Requantization,
        *,
        scale: float = 1.0,
        start: Float32[Tensor, " m"] | None = None,
    ) -> Tensor:
        """Return `scale * sums + start` as words, in the memory layout of the sums."""
        return self._done(*RequantizeSums.describe(sums, how, scale=scale, start=start))

    def add(
        self, left: Addend, right: Addend | None, how: Requantization, dtype: torch.dtype
    ) -> Tensor:
        """Return the sum of words as words, in the memory layout that both have.

        Without `right`, words change their grid.
        """
        return self._done(*AddWords.describe(left, right, how, dtype))

    def int8_pack(
        self, codes: Tensor, add: Int32[Tensor, " m"], geometry: Geometry
    ) -> tuple[Int8[Tensor, " bytes"], Int32[Tensor, " m"]]:
        """Return weights `codes + add` in blocks, and the sum of each filter; see `Int8Pack`."""
        job, packed, sums = Int8Pack.describe(codes.contiguous(), add, geometry)
        self.run(job)
        return packed, sums

    def _done(self, job: Job, out: Tensor) -> Tensor:
        self.run(job)
        return out


@lru_cache(maxsize=1)
def library() -> Library | None:
    """Return the C library, or None where there is none or it is switched off.

    Example:
        >>> (library() is None) == bool(why_absent())
        True
    """
    return find_library(_wanted())[0]


def why_absent() -> str:
    """Say in one line why `library()` is None; empty if it is not."""
    return find_library(_wanted())[1]


def levels() -> tuple[str, ...]:
    """Return the levels that this processor can compute, none without a library.

    Example:
        >>> set(levels()) <= {"portable", "avx2", "vbmi"}
        True
    """
    functions = _load()
    if isinstance(functions, str):
        return ()
    return LEVELS[: int(functions.bitproof_best_level()) + 1]


def find_library(level: str) -> tuple[Library | None, str]:
    """Return the C library at `level` (empty for the fastest), or None and why.

    Example:
        >>> find_library("none")
        (None, 'the C library is switched off: BITPROOF_KERNELS is none')
    """
    if level == "none":
        return None, f"the C library is switched off: {VARIABLE} is none"
    functions, able = _load(), levels()
    if isinstance(functions, str):
        return None, functions
    if level and level not in able:
        return None, f"{VARIABLE}: wanted none or one of {', '.join(able)}, got {level!r}"
    return Library(level or able[-1], functions), ""


def _wanted() -> str:
    return os.environ.get(VARIABLE, "").strip().lower()


@lru_cache(maxsize=1)
def _load() -> ctypes.CDLL | str:
    """Return the loaded object, or why there is none."""
    if not OBJECT.is_file():
        return f"the C library was not built: no {OBJECT.name} in {OBJECT.parent}"
    try:
        functions = ctypes.CDLL(str(OBJECT))
        functions.bitproof_layout.restype = ctypes.c_int64
        if functions.bitproof_layout() != layout():
            return f"the C library {OBJECT} is of another version: build it again"
    except (OSError, AttributeError) as error:
        return f"the C library cannot be loaded: {error}"
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    functions.bitproof_convolve.argtypes = [ctypes.c_int, pointer, *[number] * 4]
    functions.bitproof_do.argtypes = [ctypes.c_int, number, pointer, number, number]
    functions.bitproof_run_crew.argtypes = [pointer]
    return functions


def layout() -> int:
    """Return the number that a library of the same structures reports."""
    number = 0
    jobs = sorted(JOBS, key=lambda job: job.number)
    kinds: list[type[ctypes.Structure]] = [Convolution, *jobs, Step, Crew]
    for kind in kinds:
        number = (number * 257 + ctypes.sizeof(kind)) % 1_000_000_007
    return number
