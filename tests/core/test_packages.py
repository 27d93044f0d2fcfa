import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import bitproof as bp
from bitproof.approx.ariths_gen import ArithsGen
from bitproof.attacks.autoattack import AutoAttack
from bitproof.circuits import AdamCircuit
from bitproof.core.errors import AdapterError
from bitproof.core.packages import check_packages, packages_of
from bitproof.evaluation import Evaluation, Ray
from bitproof.evaluation.adversarial_examples import AdversarialExamples
from bitproof.explore.genetic import Nsga2
from bitproof.models import Timm
from bitproof.recipe import Recipe, run

NEEDS = {
    "ray": Ray(),
    "timm": Timm(name="resnet18"),
    "pyautoattack": Evaluation(
        threats=[AdversarialExamples(attack=AutoAttack(epsilon=0.1), levels=(0.1,))]
    ),
    "pymoo": [Nsga2()],
    "ariths_gen": {"a": ArithsGen(circuit="SignedDaddaMultiplier")},
    "pyosys": bp.CircuitMultiplier(design=AdamCircuit(mantissa=5)),
    "amaranth": bp.CircuitMultiplier(design=AdamCircuit(mantissa=5)),
}


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in NEEDS else real(name, package)

    monkeypatch.setattr("bitproof.core.packages.find_spec", find_spec)


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.usefixtures("nothing_installed")
def test_what_is_missing_is_told_of_whatever_needs_it(name: str) -> None:
    with pytest.raises(AdapterError, match=rf"wanted the optional package '{name}'.*pip install"):
        check_packages(NEEDS[name])


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"model": "timm:resnet18"}, ["timm"]),
        (
            {
                "evaluation": {
                    "threats": [
                        {
                            "kind": "adversarial_examples",
                            "attack": {"kind": "autoattack", "epsilon": 0.1},
                            "levels": [0.1],
                        }
                    ]
                }
            },
            ["pyautoattack"],
        ),
        (
            {
                "multipliers": {
                    "m": {"kind": "circuit", "design": {"kind": "adam", "mantissa": 5}}
                },
                "variants": ["baseline", "m"],
            },
            ["amaranth", "pyosys"],
        ),
    ],
)
def test_a_run_refuses_before_it_reads_data_or_writes_anything(
    changes: dict[str, Any], wanted: Sequence[str], tmp_path: Path
) -> None:
    table = {
        "name": "toy",
        "model": "digits_cnn",
        "data": {"kind": "cifar10"},
        "train": {"epochs": 1},
    }
    recipe = Recipe.model_validate({**table, **changes})
    with pytest.raises(AdapterError) as error:
        run(recipe, tmp_path / "run", data_dir=tmp_path / "no such folder")
    lines = str(error.value).splitlines()
    assert [line.split("'")[1] for line in lines] == wanted
    assert not (tmp_path / "run").exists()


def test_nothing_is_asked_of_specs_that_need_nothing(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {"name": "toy", "model": "digits_cnn", "data": "digits", "train": {"epochs": 1}}
    )
    assert list(packages_of(recipe)) == []
    check_packages(recipe, None, tmp_path, [3], {"a": "b"})
