"""A threat in one new file appears in a run, its table and its report, and nothing else changes."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from bitproof.cli import main
from bitproof.evaluation import THREATS, Threat
from bitproof.recipe import Recipe, run
from bitproof.stats import read_results


@pytest.fixture
def new_threat(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Threat]]:
    """Import the file, as an entry point would; other tests know nothing of it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    yield import_module("tests.recipe.activation_noise").ActivationNoise
    del THREATS._kinds["activation_noise"]
    sys.modules.pop("tests.recipe.activation_noise")


@pytest.mark.slow
def test_a_new_threat_needs_one_file(
    new_threat: type[Threat],
    toy: Recipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = toy.to_dict()
    table["evaluation"]["threats"].append({"kind": "activation_noise", "levels": [1.0, 64.0]})
    recipe = Recipe.model_validate(table)
    assert recipe.evaluation.threats[-1] == new_threat.from_table({"levels": [1.0, 64.0]})
    report = run(recipe, tmp_path / "run", device="cpu")
    rows = [row for row in read_results(report.parent / "results.csv") if "noise" in row.threat]
    found = {(row.variant, row.level): row for row in rows if row.metric == "acc"}
    assert list(found) == [(v, level) for v in recipe.variants for level in (1.0, 64.0)]
    assert all(row.n == 3 and row.ci_low is not None for row in found.values())
    assert found["float", 1.0].value == found["float", 64.0].value
    assert found["baseline", 1.0].value != found["baseline", 64.0].value
    page = report.read_text()
    assert page.count("Noise on activations") > 2
    assert "σ" in page
    monkeypatch.setattr("sys.argv", ["bitproof", "report", str(report.parent)])
    with pytest.raises(SystemExit):
        main()
    assert "activation_noise" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["bitproof", "describe", "activation_noise"])
    with pytest.raises(SystemExit):
        main()
    assert "Standard deviations, in steps." in capsys.readouterr().out
