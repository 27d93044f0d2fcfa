"""The run directory: what lies where, what a run says about itself, and whether it may go on.

bitproof-manifest.json       size and SHA-256 of each file
recipe.toml                  the recipe, complete
run.json                     versions, device, digests, durations, warnings
results.csv                  the measurements, tidy
report.html                  the report
tallies.jsonl                counts of finished measurements, appended
networks/VARIANT.safetensors, .json        integer network (float weights for `float`)
networks/VARIANT.weights.safetensors       float weights behind it
checkpoints/VARIANT.safetensors            training under way; gone when it is done
records/VARIANT.json         what the stages tell, and how the network is quantized
statistics/VARIANT.json      what flipped bits do to the weights of an integer network
"""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from bitproof.core.directory import FACTS, Entry, ResumableDirectory
from bitproof.core.progress import SILENT, Progress
from bitproof.core.version import __version__
from bitproof.recipe.recipe import Recipe
from bitproof.recipe.toml import read_recipe, write_recipe

SCHEMA = 1
"""Version of the layout."""


@dataclass(frozen=True)
class RunDirectory(ResumableDirectory):
    """One run on disk."""

    identity: ClassVar[tuple[str, ...]] = ("recipe.toml", FACTS)
    made: ClassVar[tuple[str, ...]] = (
        *("networks/*", "checkpoints/*", "records/*", "statistics/*", "results.csv"),
    )
    logs: ClassVar[tuple[str, ...]] = ("tallies.jsonl",)

    recipe = Entry("recipe.toml")
    results = Entry("results.csv")
    tallies = Entry("tallies.jsonl")

    def network(self, variant: str) -> Path:
        """Return the path of an integer network, without suffix."""
        return self.path / "networks" / variant

    def weights(self, variant: str) -> Path:
        """Return the path of float weights."""
        suffix = ".safetensors" if variant == "float" else ".weights.safetensors"
        return self.path / "networks" / f"{variant}{suffix}"

    def recipe_dir(self) -> Path | None:
        """Return the folder that the recipe lay in, where modules of the user's are looked for."""
        noted = self.facts().get("recipe_dir")
        return Path(noted) if noted else None

    def checkpoint(self, variant: str) -> Path:
        """Return the path of the snapshot of a training under way."""
        return self.path / "checkpoints" / f"{variant}.safetensors"

    def record(self, variant: str) -> Path:
        """Return the path of a variant's record."""
        return self.path / "records" / f"{variant}.json"

    def statistics(self, variant: str) -> Path:
        """Return the path of the figures that explain how an integer network takes bit errors."""
        return self.path / "statistics" / f"{variant}.json"

    def check(self, recipe: Recipe, *, resume: bool, progress: Progress = SILENT) -> None:
        """Raise an error unless a run may start here, or go on; each differing field is named.

        What changed since it was written is set aside, and `progress` is told.
        """
        self.check_place()
        if self.recipe.exists():
            self.check_resume(resume=resume)
            self.take_stock(progress.say, self.tallies)
            before = read_recipe(self.recipe).to_dict()
            self.check_same(before, recipe.to_dict(), "belongs to another recipe")
        else:
            self.check_no_parts(self.recipe.name)

    def begin(self, recipe: Recipe, **facts: Any) -> None:
        """Write down what is going to be done; `facts` go to run.json."""
        if not self.recipe.exists():
            self.manifest.create()
            write_recipe(recipe, self.recipe)
        self.manifest.reopen()
        names = [*recipe.stages, *recipe.multipliers]
        stages = {name: recipe.stage(name).model_dump(mode="json") for name in names}
        self.note(
            digest=recipe.digest(),
            recipe_name=recipe.name,
            title=recipe.title,
            variants=list(recipe.variants),
            baseline=recipe.baseline,
            stages=stages,
            started=self.facts().get("started", now()),
            finished=None,
            **facts,
        )


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions and machine, as run.json records them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "schema": SCHEMA,
        "bitproof": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.type} {name}".strip(),
        "threads": torch.get_num_threads(),
    }


def now() -> str:
    """Return the present time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
