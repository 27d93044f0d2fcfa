"""What a package index and people who cite need to find."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bitproof import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def hook_module() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("problem", "pure"), [("", False), ("no compiler", True)])
def test_a_wheel_is_of_one_platform_only_where_it_holds_the_library(
    problem: str, *, pure: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = hook_module()
    monkeypatch.setattr(module, "build", lambda: problem)
    built: dict[str, Any] = {"pure_python": True, "artifacts": []}
    module.TablesHook.initialize(object.__new__(module.TablesHook), "standard", built)
    assert built["pure_python"] is pure
    assert ("tag" in built) is not pure
    assert built["artifacts"] == ([] if pure else ["src/bitproof/kernels/_tables.so"])
    assert problem in capsys.readouterr().out
    if not pure:
        assert built["tag"].startswith("py3-none-")  # loaded by ctypes: no ABI of Python's


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_an_sdist_takes_what_is_there() -> None:
    for pattern in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert list(ROOT.glob(pattern.lstrip("/")))
    assert (ROOT / "LICENSE").read_text("utf-8").lstrip().startswith("Apache License")


def test_all_is_every_extra_of_users() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    named = extras["all"][0].removeprefix("bitproof[").rstrip("]").split(",")
    assert {*named} == {*extras} - {"all", "dev", "docs"}
