import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bitproof.core.errors import DataError
from bitproof.report.run import MultiplierFacts, read_run

MakeRun = Callable[..., Path]


def test_planned_variants_come_first_and_missing_ones_are_known(make_run: MakeRun) -> None:
    folder = make_run(variants=["baseline", "s1"], facts={"variants": ["s2", "s1"]})
    run = read_run(folder)
    assert run.variants == ("s2", "s1", "baseline")
    assert run.missing == ("s2",)


def test_the_full_pipeline_has_the_most_stages(run_dir: Path) -> None:
    assert read_run(run_dir).full == "s1+s2+s3"


def test_of_equally_long_pipelines_the_later_one_is_full(make_run: MakeRun) -> None:
    assert read_run(make_run(variants=["baseline", "s1", "s1+s2", "s2+s1"])).full == "s2+s1"


def test_without_hardened_variants_nothing_is_full(make_run: MakeRun) -> None:
    assert read_run(make_run(variants=["float", "baseline"])).full is None


def test_threats_are_ordered_faults_first(run_dir: Path) -> None:
    assert read_run(run_dir).threats == ("random_flips", "linf_pgd")


def test_the_float_network_leaves_no_gaps(run_dir: Path) -> None:
    assert read_run(run_dir).gaps() == 0


def test_a_lost_row_is_a_gap(run_dir: Path) -> None:
    path = run_dir / "results.csv"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("s2,random_flips,0.001,acc,")]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))
    assert read_run(run_dir).gaps() == 1


@pytest.mark.parametrize("name", ["run.json", "results.csv"])
def test_a_missing_file_is_named(name: str, run_dir: Path) -> None:
    (run_dir / name).unlink()
    with pytest.raises(DataError, match=name):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "wanted JSON"),
        ("[" * 100_000, "wanted JSON"),
        ("[]", "run.json: "),
        ('{"schema": 2}', "wanted schema 1, got 2"),
        ('{"variants": "none"}', "variants"),
        ('{"durations": {"train": "long"}}', "durations.train"),
    ],
)
def test_malformed_facts_are_named(text: str, message: str, run_dir: Path) -> None:
    (run_dir / "run.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_run(run_dir)


def test_a_malformed_record_is_named(run_dir: Path) -> None:
    (run_dir / "records" / "s1.json").write_text("{")
    with pytest.raises(DataError, match=r"s1\.json: wanted JSON"):
        read_run(run_dir)


def test_unknown_keys_are_left_alone(run_dir: Path) -> None:
    path = run_dir / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weather": "fine"}))
    assert read_run(run_dir).facts.recipe_name == "digits_resq"


def test_the_last_multiplier_of_a_variant_counts(make_run: MakeRun) -> None:
    told = {"a": {"power_mw": 0.1}, "b": {}}
    run = read_run(make_run(variants=["baseline"], facts={"multipliers": told}))
    assert [run.multiplier_of(name) for name in ("s1+a", "a+b+retrain", "baseline")] == [
        "a",
        "b",
        None,
    ]


def test_neither_multipliers_nor_their_stages_are_hardening(make_run: MakeRun) -> None:
    kinds = {"a": "approximate", "mix": "approximate", "tune": "approximation_aware"}
    facts = {
        "multipliers": {"a": {}},
        "stages": {"s1": {"kind": "desensitize"}, "odd": {"kind": ["list"]}}
        | {name: {"kind": kind} for name, kind in kinds.items()},
    }
    variants = ["baseline", "s1", "s1+a+tune", "mix+tune", "s1+mix"]
    run = read_run(make_run(variants=variants, rows=[], facts={**facts, "variants": variants}))
    assert run.full == "s1"
    assert run.is_approximate("s1+mix")
    assert not run.is_approximate("odd")
    assert not run.is_hardened("mix+tune")


@pytest.mark.parametrize(
    ("settings", "hardens"),
    [
        ({}, False),
        ({"ber": 0.0, "lam_adv": 0, "faulty_share": 0.5, "epsilon": 0.03}, False),
        ({"ber": "many", "lam_adv": None}, False),
        ({"ber": 1e-3}, True),
        ({"ber": 0.0, "lam_adv": 0.5}, True),
    ],
)
def test_training_for_multipliers_hardens_by_its_other_terms_alone(
    settings: dict[str, object], hardens: bool, make_run: MakeRun
) -> None:
    stages = {"a": {"kind": "approximate"}, "tune": {"kind": "approximation_aware", **settings}}
    variants = ["float", "baseline", "a", "tune", "a+tune"]
    facts = {"multipliers": {"a": {}}, "stages": stages, "variants": variants}
    run = read_run(make_run(variants=[], rows=[], facts=facts))
    assert [run.is_hardened(v) for v in variants] == [False, False, False, hardens, hardens]
    assert run.full == ("tune" if hardens else None)


@pytest.mark.parametrize(
    ("told", "circuit"),
    [
        ({"signed": True, "circuit_signed": True}, "signed circuit"),
        ({"signed": True, "circuit_signed": False}, "unsigned circuit between sign bits"),
        ({"signed": False, "circuit_signed": False}, "unsigned circuit"),
        ({"signed": True}, "signed circuit"),
        ({"signed": False}, "unsigned circuit"),
        ({}, "circuit of unknown kind"),
    ],
)
def test_what_a_circuit_multiplies_is_told_apart_from_what_stands_around_it(
    told: dict[str, bool], circuit: str
) -> None:
    assert MultiplierFacts.model_validate(told).circuit == circuit


def test_figures_of_multipliers_may_be_missing_or_no_number(run_dir: Path) -> None:
    path = run_dir / "run.json"
    told = {"a": {"power_mw": None, "area_um2": float("nan"), "med": 255, "weather": "fine"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"multipliers": told}))
    found = read_run(run_dir).facts.multipliers["a"]
    assert (found.power_mw, found.area_um2, found.med, found.ep) == (None, None, 255.0, None)
