"""A recipe that goes through every phase of a run in a second, and the run that nothing stops."""

from pathlib import Path

import pytest

from bitproof.recipe import Recipe, read_recipe, run

collect_ignore = ["activation_noise.py"]
"""A threat of somebody else: imported by one test, and unknown to all others."""


@pytest.fixture(scope="session")
def toy() -> Recipe:
    return read_recipe(Path(__file__).with_name("toy.toml"))


@pytest.fixture(scope="session")
def finished(toy: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an uninterrupted run; tests only read it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(toy, out, device="cpu")
    return out
