"""`bitproof compare` and `bp.read` on what the commands themselves left."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bitproof as bp
from bitproof.core.errors import DataError
from bitproof.injection import Injection, carry_out_campaign, prepare_campaign
from bitproof.quant import quantize, save_network
from bitproof.report.tables import read
from bitproof.stats import read_results

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture
def campaigns(tmp_path: Path) -> tuple[Path, Path]:
    """Return two campaigns of the same faults, the second with SECDED."""
    splits = bp.load_data("digits", train_size=64)
    network = quantize(bp.build_model("digits_cnn", splits, width=4), splits.train.inputs())
    save_network(network, tmp_path / "network")
    found = []
    for name, protections in (("plain", ()), ("secded", ({"kind": "secded"},))):
        injection = Injection(trials=60, images=8, protections=protections)
        prepare_campaign(tmp_path / name, network, injection, splits.test)
        carry_out_campaign(tmp_path / name)
        found.append(tmp_path / name)
    return found[0], found[1]


def test_campaigns_with_and_without_secded_are_paired_by_their_faults(
    call: Call, campaigns: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = call("compare", "plain", "secded", "--out", "c", "--json", "c.json")
    assert outcome.code == 0
    assert "60 faults" in outcome.out
    assert "secded - plain, points" in outcome.out
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    totals = [json.loads((path / "summary.json").read_text())["totals"][0] for path in campaigns]
    told = next(r for r in rows if r["metric"] == "SDC-10 %" and r["place"] == "secded")
    first, second = (total["rates"]["sdc10"] for total in totals)
    assert (told["value"], told["ci_low"], told["ci_high"]) == (second[1], second[0], second[2])
    assert told["difference"] == pytest.approx(second[1] - first[1])
    assert told["difference_low"] <= told["difference"] <= told["difference_high"]
    assert told["how"] == "paired by 60 faults"
    with (tmp_path / "c" / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert (tmp_path / "c" / "comparison.svg").read_bytes().startswith(b"<svg ")

    tables = read(campaigns[0])
    assert tables.kind == "campaign"
    summary = json.loads((campaigns[0] / "summary.json").read_text())
    for row, own in zip(tables["layers"], summary["layers"], strict=True):
        assert [row["sdc1_low"], row["sdc1"], row["sdc1_high"]] == own["rates"]["sdc1"]
    assert tables["totals"][0]["acc"] == summary["totals"][0]["acc"][1]
    assert bp.flat(summary)["bits"].column("sdc5") == tables["bits"].column("sdc5")
    assert len(tables["faults"]) == 60
    worst = max(tables["faults"].column("sdc1"))
    assert [row["sdc1"] for row in tables["worst"]][:1] == ([worst] if worst else [])
    assert tables["rankings"].to_arrow().num_rows == len(tables["rankings"]) > 0
    with pytest.raises(DataError, match="Did you mean 'layers'"):
        tables["layer"]
    try:
        import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401, PLC0415
    except ImportError:
        with pytest.raises(DataError, match="pip install pandas"):
            tables["layers"].to_pandas()
    else:
        assert len(tables["layers"].to_pandas()) == len(tables["layers"])


def test_networks_of_a_run_stand_side_by_side_and_its_tables_are_its_files(
    call: Call, finished: Path
) -> None:
    shutil.copytree(finished, "r")
    outcome = call("compare", "r")
    assert outcome.code == 0
    assert "s1+s2+s3 - float, points" in outcome.out
    clean = next(line for line in outcome.out.splitlines() if "clean" in line)
    assert clean.count("images") == 2
    assert "unpaired" not in clean
    assert call("compare", "r/networks/baseline", "r/networks/s1+s2+s3").code == 0
    for other in ("r", "nowhere"):
        wrong = call("compare", "r", other)
        assert (wrong.code, len(wrong.problems)) == (2, 1)

    tables = bp.read("r")
    rows = read_results(Path("r/results.csv"))
    assert [row["value"] for row in tables["results"]] == [row.value for row in rows]
    assert list(bp.flat(rows)) == list(tables["results"])
    lines = Path("r/tallies.jsonl").read_text().splitlines()
    assert tables["measurements"].column("correct") == [
        json.loads(line)["correct"] for line in lines if json.loads(line)["total"]
    ]
    assert tables["networks"].column("variant") == ["float", "baseline", "s1+s2+s3"]
    with pytest.raises(DataError, match="nowhere: wanted a run directory"):
        bp.read("nowhere")
