"""The command line, called in this process: what it prints and how it ends."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bitproof.cli import main
from bitproof.recipe import read_recipe, run

TOY = Path(__file__).parents[1] / "recipe" / "toy.toml"


class Outcome(NamedTuple):
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


Call = Callable[..., Outcome]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Return a function that runs `bitproof WORDS...` in an empty folder, without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BITPROOF_DATA", raising=False)
    monkeypatch.setattr("bitproof.recipe.speed.ENOUGH_S", 0.0)  # estimates may be rough here

    def call_main(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bitproof", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call_main


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an uninterrupted toy run; tests only read it."""
    out = tmp_path_factory.mktemp("cli") / "run"
    run(read_recipe(TOY), out, device="cpu")
    return out


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Return a recipe that runs in a second."""
    path = tmp_path / "toy.toml"
    path.write_text(TOY.read_text())
    return path
