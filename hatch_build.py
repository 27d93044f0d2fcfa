"""Compile the C library while the package is built, where there is a compiler.

Wheels and editable installs call `initialize`; without a compiler, or if it fails, one line says
so and the package goes on without (`bitproof.kernels.library` then reports that it is absent).
By hand: `python hatch_build.py`.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import (  # type: ignore[import-not-found, unused-ignore]
        BuildHookInterface,
    )
except ImportError:  # run by hand, without the build system
    BuildHookInterface = object

KERNELS = Path(__file__).parent / "src" / "bitproof" / "kernels"
OBJECT = KERNELS / "_tables.so"
FLAGS = ("-O3", "-shared", "-fPIC", "-ffp-contract=off")
"""Levels choose their instructions themselves and one is taken at run time: never -march."""


class TablesHook(BuildHookInterface):  # type: ignore[misc, unused-ignore]
    """Puts `_tables.so` into the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and tell hatchling that the wheel then fits one platform only."""
        problem = build()
        if problem:
            sys.stdout.write(f"bitproof goes on without its C library: {problem}\n")
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(str(OBJECT.relative_to(Path(__file__).parent)))


def build() -> str:
    """Compile the library if it is older than its sources; return what went wrong, if anything."""
    sources = [*sorted((KERNELS / "csrc").glob("*.[ch]")), Path(__file__)]
    if OBJECT.is_file() and OBJECT.stat().st_mtime > max(p.stat().st_mtime for p in sources):
        return ""
    OBJECT.unlink(missing_ok=True)  # never leave one that is of other sources
    named = shlex.split(os.environ.get("CC", ""))
    compiler = named or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))]
    if not compiler:
        return "wanted a C compiler, got none (cc, gcc, clang)"
    unfinished = OBJECT.with_suffix(f".{os.getpid()}")
    files = [str(path) for path in sources if path.suffix == ".c"]
    command = [*(named or compiler[:1]), *FLAGS, *files, "-o", str(unfinished)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]} cannot be run: {error}"
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        lines = done.stderr.strip().splitlines() or [f"{command[0]} failed"]
        return next((line for line in lines if "error" in line), lines[0])
    unfinished.replace(OBJECT)  # in one step: somebody may be loading the old one
    return ""


if __name__ == "__main__":
    sys.exit(build() or 0)
