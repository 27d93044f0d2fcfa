"""Read every file of a folder, and print what came of it as lines of JSON: a program, no test."""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import nn

from bitproof.core.errors import BitproofError
from bitproof.data.mnist import read_idx
from bitproof.data.packed import read_arrays
from bitproof.faults import read_fault_list
from bitproof.models import load_weights
from bitproof.quant import load_network
from bitproof.recipe import read_recipe

READERS: dict[str, Callable[[Path], object]] = {
    "weights": lambda path: load_weights(nn.Linear(3, 2), path),
    "network": lambda path: load_network(path.with_suffix("")),
    "arrays": lambda path: read_arrays(path, ["x"]),
    "idx": lambda path: read_idx(path, 1),
    "recipe": read_recipe,
    "faults": lambda path: read_fault_list(path, layers=["a"]),
}


def memory_mb() -> float:
    """Return the most memory that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: Path, limit: int) -> None:
    """Read all files; none may take more than `limit` bytes of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("error")
    for path in sorted(folder.iterdir()):
        before, start = memory_mb(), time.perf_counter()
        print(json.dumps({"begun": path.name}), flush=True)  # noqa: T201
        try:
            READERS[path.name.partition("-")[0]](path)
            problem = "was read"
        except BitproofError as error:
            problem = f"{type(error).__name__}: {error}"
        except BaseException as error:
            problem = f"BUG {type(error).__name__}: {error}"
        seconds, more = time.perf_counter() - start, memory_mb() - before
        print(  # noqa: T201
            json.dumps({"file": path.name, "problem": problem, "seconds": seconds, "mb": more}),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
