"""Emulation of approximate multipliers, bit for bit: ResNet layers and whole ResNets, on the CPU.

rival: the usual kernel of published emulators, one load from a table of 256x256 int32 for each
       product (`plain_gather.c`, -O3 for this processor), one slice of images for each thread. It
       is timed on fewer images, and counted by the products it made: its time is linear in them.
ours:  layers: words in, words out, with im2col and requantization, prepared before. `kernel`: the
       look-ups alone, of columns that are there already, without requantization. Networks: logits
       of images, a table in every convolution and linear layer.
limit: float32 convolution by torch, or the float32 module, in the better of its two memory layouts.
int8:  the exact integer layer or network on 8-bit dot products, requantization included.
wanted: the targets of issue 5: per core 45 G products/s in the kernel and 40 with everything, any
       table; 60 for 7-bit words and for tables or errors of one byte, held against both the
       kernel and the whole layer; as fast as float32 for rank 1, 0.8 of it for rank 3. Those in
       G products/s are for AVX-512 VBMI and left out elsewhere.

Layers of 3x3, padding 1, batch 32. All of n*m*h*w*c*9 products count, those of padding too, and
whatever the form. The tables are EvoApproxLib's (`BITPROOF_DATA`), or else of the catalogue, in
the same forms. Weights are random. Before anything is timed, the words, sums or logits of every
case are compared with those of plain gathering, on two images. All cases of a layer or network take
turns in one process; figures are medians, `best` is the fastest round of ours. The kernel's columns
come from memory, nine times as many as the words that a layer reads, which can make it the slower.
`BITPROOF_KERNELS` chooses the instructions (`avx2`, `portable`, `none`).
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from approx_layers import Layer, Shape
from approx_networks import Network
from benchmark_tables import Tables, read_tables
from plain_gather import PlainGather
from table import Row, interleave, save

from bitproof.kernels.library import library, why_absent
from bitproof.models import ImageModelSpec, ResNet18, ResNet20

SHAPES = (Shape(64, 32), Shape(128, 16), Shape(256, 8), Shape(512, 4))
MODELS: dict[str, tuple[ImageModelSpec, int]] = {
    "ResNet-20": (ResNet20(), 128),
    "ResNet-18": (ResNet18(), 32),
}
"""With the images of a batch."""
BATCH = 32
THREADS = (1, 2)
PER_CORE = {
    "any table: kernel": 45.0,
    "any table, 7-bit words: kernel": 60.0,
    "one-byte table: kernel": 60.0,
    "any table": 40.0,
    "any table, 7-bit words": 60.0,
    "one-byte table": 60.0,
    "4 tables, filter by filter": 40.0,
}
"""Wanted G products/s."""
OF_FLOAT32 = {"rank 1": 1.0, "rank 3": 0.8}
"""Wanted, of the float32 convolution."""
LEAST_GAIN = 1.3
"""What float32 gains by a second thread, at least, on a machine that does nothing else."""
FLOATS = ("float32", "float32, channels last")


@dataclass(frozen=True)
class Effort:
    """How much is timed."""

    shapes: tuple[Shape, ...] = SHAPES
    batch: int = BATCH
    rounds: int = 11
    network_rounds: int = 5
    models: tuple[str, ...] = tuple(MODELS)
    share: int = 1
    """Batches of networks are divided by it."""


QUICK = Effort(
    shapes=(Shape(64, 16), Shape(128, 8)),
    batch=2,
    rounds=1,
    network_rounds=1,
    models=("ResNet-20",),
    share=32,
)
LITTLE = Effort(batch=2, rounds=1, network_rounds=1, share=32)
"""Where look-ups are not compiled: gathering by torch is too slow for more."""


@dataclass(frozen=True)
class Rate(Row):
    """A comparison of rates, of which more is better."""

    unit: str = "G/s"
    best: float = 0.0
    """The fastest round of ours."""
    float32: float = 0.0
    """In torch's usual layout; `limit` is the better of both layouts."""
    channels_last: float = 0.0
    """Float32, channels last."""
    int8: float = 0.0
    wanted: float | None = None

    @property
    def ratio(self) -> float:
        """Return how many times `ours` is as much as `rival`."""
        return self.ours / self.rival


def main() -> None:
    parser = argparse.ArgumentParser(description="Approximate multipliers on ResNets.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round")
    options = parser.parse_args()
    compiled = library()
    effort = QUICK if options.quick else Effort() if compiled else LITTLE
    tables, gather, rows = read_tables(), PlainGather(), []
    torch.set_grad_enabled(False)
    print(f"Look-ups: {compiled.level if compiled else 'none, ' + why_absent()}.")
    dots = compiled is not None and compiled.level == "vbmi"
    print(f"8-bit dot products: {'yes' if dots else 'no, slower ones in their place'}.")
    print("Tables: " + "; ".join(f"{form} is {name}" for form, name in tables.names.items()) + ".")
    for shape in effort.shapes:
        rows += show(f"{shape}, batch {effort.batch}", time_layer(shape, tables, gather, effort))
    for name in effort.models:
        spec, batch = MODELS[name]
        network = Network(spec, tables, gather, batch=batch // effort.share)
        rows += show(f"{name}, batch {len(network.images)}", time_network(name, network, effort))
    if options.json:
        save(options.json, rows)


def time_layer(shape: Shape, tables: Tables, gather: PlainGather, effort: Effort) -> list[Rate]:
    """Return the rates of one layer, for each number of threads."""
    layer, rows = Layer(shape, tables, gather, batch=effort.batch), []
    for threads in THREADS:
        torch.set_num_threads(threads)
        ours = layer.kernels() | layer.layers()
        cases = layer.limits() | {"rival": layer.rival()} | ours
        rates = timed(
            {name: case.call for name, case in cases.items()},
            {name: case.products / 1e9 for name, case in cases.items()},
            rounds=effort.rounds,
        )
        rows += [rate_of(f"{shape}", name, rates, threads) for name in ours]
    return rows


def time_network(title: str, network: Network, effort: Effort) -> list[Rate]:
    """Return images per second of one network, for each number of threads."""
    rows = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        calls = network.calls()
        images = dict.fromkeys(calls, float(len(network.images)))
        images["rival"] = float(network.gathered_images)
        rates = timed(calls, images, rounds=effort.network_rounds)
        rows += [rate_of(title, name, rates, threads, unit="images/s") for name in network.through]
    return rows


def timed(
    calls: Mapping[str, Callable[[], object]], work: Mapping[str, float], *, rounds: int
) -> dict[str, tuple[float, float]]:
    """Return work per second of each call: the median of the rounds, and the best."""
    times = interleave(calls, rounds=rounds)
    return {
        name: (1e3 * work[name] / statistics.median(taken), 1e3 * work[name] / taken[0])
        for name, taken in times.items()
    }


def rate_of(
    title: str,
    name: str,
    rates: Mapping[str, tuple[float, float]],
    threads: int,
    *,
    unit: str = "G/s",
) -> Rate:
    """Return the row of one case."""
    middle = {case: rate[0] for case, rate in rates.items()}
    limit, wanted, compiled = max(middle[case] for case in FLOATS), None, library()
    if unit == "G/s" and name in OF_FLOAT32:
        wanted = OF_FLOAT32[name] * limit
    elif unit == "G/s" and name in PER_CORE and compiled and compiled.level == "vbmi":
        wanted = PER_CORE[name] * threads
    return Rate(
        f"{title}, {threads} thread{'s' * (threads > 1)}, {name}",
        middle["rival"],
        middle[name],
        limit,
        unit,
        best=rates[name][1],
        float32=middle[FLOATS[0]],
        channels_last=middle[FLOATS[1]],
        int8=middle["exact int8"],
        wanted=wanted,
    )


def show(title: str, rows: list[Rate]) -> list[Rate]:
    """Print rows as a table, and return them."""
    width = max(len(row.name) for row in rows)
    heads = ("rival", "ours", "best", "wanted", "float32", "last", "int8", "/limit", "/rival")
    print(f"\n{title}: {rows[0].unit}; `last` is float32, channels last")
    print(f"{'':{width}}" + "".join(f"{head:>10}" for head in heads))
    for row in rows:
        wanted = "" if row.wanted is None else f"{row.wanted:.1f}"
        numbers = (row.float32, row.channels_last, row.int8)
        print(
            f"{row.name:{width}}{row.rival:10.2f}{row.ours:10.1f}{row.best:10.1f}{wanted:>10}"
            + "".join(f"{number:10.1f}" for number in numbers)
            + f"{row.ours / row.limit:10.2f}{row.ratio:10.1f}"
        )
    if rows[-1].limit < LEAST_GAIN * rows[0].limit:
        print(f"Figures of {THREADS[-1]} threads do not count: float32 gains nothing by them, so")
        print(
            "other programs have this machine, or it has a single core, or the work is too small."
        )
    return rows


if __name__ == "__main__":
    main()
