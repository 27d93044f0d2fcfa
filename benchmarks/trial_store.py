"""Rows of two million trials in three stores, for the benchmark of campaigns."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from table import interleave

from bitproof.injection.engine import COUNTS
from bitproof.injection.parts import Parts
from bitproof.injection.plan import MOST_CHUNKS

TRIALS = 2_000_000
LAYERS, BITS, IMAGES = 21, 8, 64


def time_stores(*, rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    """Return milliseconds, sorted, and sizes in MB: CSV, the parts of a campaign, bare Parquet."""
    columns = trial_rows()
    table, rows = pa.table(columns), TRIALS // MOST_CHUNKS
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder) / "csv", Path(folder) / "parquet"
        places = [Path(folder) / f"parts{number}" for number in range(rounds + 1)]
        fresh = iter(places)

        def write_parts() -> None:
            parts = Parts(next(fresh), "benchmark")
            for chunk in range(MOST_CHUNKS):
                own = slice(chunk * rows, (chunk + 1) * rows)
                parts.write(chunk, {name: column[own] for name, column in columns.items()})

        def read_parts() -> None:
            found = Parts(places[0], "benchmark").read_all(MOST_CHUNKS)
            np.bincount(found["cell"], found["sdc1"])

        work = {
            "write csv": lambda: pa.csv.write_csv(table, csv),
            "write parts": write_parts,
            "write parquet": lambda: pq.write_table(table, parquet, compression="zstd"),
            "read csv": lambda: sum_up(pa.csv.read_csv(csv)),
            "read parts": read_parts,
            "read parquet": lambda: sum_up(pq.read_table(parquet, columns=["cell", "sdc1"])),
        }
        times = interleave(work, rounds=rounds)
        sizes = [
            sum(file.stat().st_size for file in files) / 1e6
            for files in ([csv], places[0].iterdir(), [parquet])
        ]
    return times, sizes


def sum_up(table: pa.Table) -> None:
    """Make the layer x bit table."""
    table.group_by("cell").aggregate([("sdc1", "sum"), ("sdc1", "count")]).sort_by("cell")


def trial_rows() -> dict[str, np.ndarray]:
    """Return columns such as a campaign's workers make, layer by layer."""
    random = np.random.default_rng(0)
    layer = random.integers(0, LAYERS, TRIALS)
    order = np.argsort(layer, kind="stable")
    masked = random.binomial(IMAGES, random.beta(0.5, 0.2, TRIALS))
    moved = random.binomial(IMAGES - masked, 0.3)
    counts = {
        "masked": masked,
        "sdc1": random.binomial(moved, 0.3),
        "sdc5": random.binomial(moved, 0.05),
        "sdc10": moved,
        "sdc20": random.binomial(moved, 0.7),
        "due": np.zeros(TRIALS),
        "correct": random.binomial(IMAGES, 0.9, TRIALS),
    }
    assert tuple(counts) == COUNTS
    columns = {
        "trial": order,
        "cell": BITS * layer[order] + random.integers(0, BITS, TRIALS),
        "faults": np.ones(TRIALS),
        "images": np.full(TRIALS, IMAGES),
        **counts,
    }
    return {
        "group": np.zeros(TRIALS, np.int16),
        **{name: column.astype(np.int32) for name, column in columns.items()},
    }
