import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitproof.report import write_campaign_tables
from bitproof.report.campaign_export import COLUMNS, latex, results_latex
from bitproof.report.campaign_summary import read_summary

MakeCampaign = Callable[..., Path]
MakeSummary = Callable[..., dict[str, Any]]


def small() -> dict[str, Any]:
    """Return one layer of two bits, one of them not tried."""
    counts = {"group": 0, "images": 64, "population": 300}
    rates = {"sdc1": [0.1, 0.25, 1 / 3], "due": [0.0, -0.0, 0.04]}
    place = {"site": "weight", "layer": 'a,"b"'}
    return {
        "schema": 1,
        "campaign": {"model": "m", "data": "d", "images": 64, "trials": 9, "planned": 9},
        "groups": [{"group": 0, "label": "50% off", "kind": {"kind": "flip"}, "trials": 9}],
        "outcomes": ["sdc1", "due"],
        "totals": [
            {**counts, "trials": 9, "rates": rates, "acc": [0.5, 0.75, 1.0], "acc_min": 0.5}
            | {"acc_std": 0.125, "rerr": [0.0, 0.25, 0.5], "fit": [1.0, 1234567.0, 1e12]}
        ],
        "layers": [{**counts, **place, "trials": 9, "rates": rates}],
        "bits": [{**counts, "site": "weight", "bit": 1, "trials": 9, "rates": rates}],
        "cells": [
            {**counts, **place, "bit": 1, "trials": 9, "rates": rates},
            {**counts, **place, "bit": 0, "trials": 0, "rates": {}},
        ],
        "channels": [],
        "convergence": [],
    }


RESULTS = """group,site,layer,bit,outcome,value,ci_low,ci_high,trials,images,population
0,,,,sdc1,0.25,0.1,0.3333333333,9,64,300
0,,,,due,0,0,0.04,9,64,300
0,,,,fit,1234567,1,1e+12,9,64,300
0,,,,acc,0.75,0.5,1,9,64,300
0,,,,acc_std,0.125,,,9,64,300
0,,,,acc_min,0.5,,,9,64,300
0,,,,rerr,0.25,0,0.5,9,64,300
0,weight,"a,""b""\",,sdc1,0.25,0.1,0.3333333333,9,64,300
0,weight,"a,""b""\",,due,0,0,0.04,9,64,300
0,weight,,1,sdc1,0.25,0.1,0.3333333333,9,64,300
0,weight,,1,due,0,0,0.04,9,64,300
0,weight,"a,""b""\",1,sdc1,0.25,0.1,0.3333333333,9,64,300
0,weight,"a,""b""\",1,due,0,0,0.04,9,64,300
0,weight,"a,""b""\",0,sdc1,,,,0,64,300
0,weight,"a,""b""\",0,due,,,,0,64,300
"""

TABLE = r"""% campaign: SDC-1 in per cent with its interval (95 \%), by layer and bit
% \usepackage{booktabs}
% 50\% off
\begin{tabular}{lrrr}
\toprule
layer & 1 & 0 & all \\
\midrule
a,''b'' & $25.0^{+8.3}_{-15.0}$ & -- & $25.0^{+8.3}_{-15.0}$ \\
\midrule
all & $25.0^{+8.3}_{-15.0}$ & -- & $25.0^{+8.3}_{-15.0}$ \\
\bottomrule
\end{tabular}
"""


def test_tables_have_these_bytes(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(small())
    written = write_campaign_tables(folder)
    assert written == [folder / "results.csv", folder / "table.tex"]
    assert written[0].read_bytes().decode() == RESULTS
    assert written[1].read_bytes().decode() == TABLE


def test_a_whole_campaign_is_tidy(make_campaign: MakeCampaign) -> None:
    path, _ = write_campaign_tables(make_campaign(rates=(1e-3, 1e-2)))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    keys = [(row["group"], row["site"], row["layer"], row["bit"], row["outcome"]) for row in rows]
    assert len(set(keys)) == len(keys) == 3 * 11 + 6 * (60 + 8 + 480)
    for row in rows:
        assert (row["value"] == "") == (row["trials"] == "0")
        if row["ci_low"]:
            assert float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"])


def test_an_empty_campaign_has_a_header_alone(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=0) | {"totals": []}
    path, table = write_campaign_tables(make_campaign(told))
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    assert "tabular" not in table.read_text()


def test_latex_has_no_bare_special_characters() -> None:
    text = latex("a_b&c%d$e#f{g}h\\i^j~k<l>m\n[x]*é")
    bare = re.sub(r"\\[{}$&#%_]|\\text[a-z]+\{\}|\{\[\}|\{\*\}|\$[<>]\$", "", text)
    assert not set("{}$&#%_\\^~<>\n*") & set(bare)
    assert text.endswith("{[}x]{*}?")


def test_rows_of_the_tabular_are_complete(make_campaign: MakeCampaign) -> None:
    table = results_latex(read_summary(make_campaign(n_layers=5)))
    lines = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 7
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {9}
    assert table.count("{") == table.count("}")
    assert table.isascii()
