import json
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError, StorageError
from bitproof.reproduce import CellResult, read_cell
from bitproof.reproduce.result import FIELDS, check_places, read_cells, write_cell

GOOD: dict[str, Any] = {
    "table": "resq-matrix",
    "cell": "lenet5-mnist.s1+s2.linf_pgd-0.00392157.gain",
    "network": "lenet5",
    "dataset": "mnist",
    "variant": "s1+s2",
    "threat": "linf_pgd",
    "level": 1 / 255,
    "metric": "gain",
    "value": -0.01,
    "ci_low": -0.02,
    "ci_high": 0.01,
    "n": 10,
    "unit": "fraction",
    "seeds": [0, 1],
    "digest": "recipe:0123456789abcdef behaviour:0123456789abcdef",
    "versions": {"bitproof": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.7"},
    "device": "cpu",
    "seconds": 12.5,
    "published": None,
    "published_source": "",
    "trust": "",
}
PUBLISHED = {"published": 0.1, "published_source": "a paper", "trust": "S"}
KEYS = (
    "table, cell, network, dataset, variant, threat, level, metric, value, ci_low, ci_high, n, "
    "unit, seeds, digest, versions, device, seconds, published, published_source, trust"
)


def put(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small" / "resq-matrix" / f"{GOOD['cell']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_keys_are_the_contract() -> None:
    assert ", ".join(FIELDS) == KEYS


@pytest.mark.parametrize("more", [{}, PUBLISHED])
def test_what_is_written_reads_back(tmp_path: Path, more: dict[str, Any]) -> None:
    result = CellResult.model_validate({**GOOD, **more})
    path = write_cell(result, tmp_path, "small")
    assert path == put(tmp_path, path.read_text())
    assert list(json.loads(path.read_text())) == list(FIELDS)
    assert read_cell(path) == result
    assert read_cells(tmp_path, "small", "resq-matrix") == {result.cell: result}
    assert read_cells(tmp_path, "full", "resq-matrix") == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": "0.5"}, "value"),
        ({"value": 0.5}, "between ci_low and ci_high"),
        ({"n": 0}, "n:"),
        ({"n": 1.5}, "n:"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"digest": "0123"}, "digest"),
        ({"versions": {"torch": "2"}}, "versions"),
        ({"variant": "s1"}, "cell: wanted 'lenet5-mnist.s1.linf_pgd-0.00392157.gain'"),
        ({"level": None}, "cell: wanted"),
        ({"level": "none"}, "level"),
        ({"seconds": -1.0}, "seconds"),
        ({"published": 0.1}, "number, source and trust together"),
        ({"trust": "S"}, "number, source and trust together"),
        ({"network": "lenet5/.."}, "network"),
    ],
)
def test_a_bad_value_is_told_in_one_line(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    path = put(tmp_path, json.dumps({**GOOD, **change}, indent=1) + "\n")
    with pytest.raises(DataError, match=problem) as caught:
        read_cell(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "wanted a finished cell"),
        ("{", "wanted a finished cell"),
        ("[]", "wanted a finished cell"),
        (json.dumps(without("unit")), "unit: wanted a value, none came"),
        (json.dumps({**without("unit"), "units": "%"}), "units: "),
        (json.dumps({"trust": "", **without("trust")}), "changed by hand"),
        (json.dumps(GOOD), "changed by hand"),
        (json.dumps(GOOD, indent=1), "changed by hand"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem.replace("?", r"\?")) as caught:
        read_cell(put(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    path = write_cell(CellResult.model_validate(GOOD), tmp_path, "small")
    for wrong in (path.with_name("other.json"), tmp_path / "small" / "energy" / path.name):
        wrong.parent.mkdir(exist_ok=True)
        wrong.write_text(path.read_text())
        with pytest.raises(DataError, match=r"wanted it at resq-matrix/lenet5"):
            read_cell(wrong)


@pytest.mark.parametrize(
    "place", ["tiny/resq-matrix", "small/no-such", "small", "", "full/resq-matrix/x"]
)
def test_a_file_of_no_size_and_table_is_found(tmp_path: Path, place: str) -> None:
    check_places(tmp_path)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"wanted SIZE/TABLE/CELL\.json"):
        check_places(tmp_path)


def test_an_interrupted_write_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CellResult.model_validate(GOOD)
    before = write_cell(result, tmp_path, "small").read_text()

    def full(_self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        write_cell(CellResult.model_validate({**GOOD, "n": 11}), tmp_path, "small")
    (only,) = (tmp_path / "small" / "resq-matrix").iterdir()
    assert only.read_text() == before
