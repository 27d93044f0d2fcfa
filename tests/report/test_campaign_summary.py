import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from bitproof.core.errors import DataError
from bitproof.report import console_table
from bitproof.report.campaign_export import results_csv, results_latex
from bitproof.report.campaign_page import render_campaign
from bitproof.report.campaign_summary import read_summary, slices

MakeCampaign = Callable[..., Path]
MakeSummary = Callable[..., dict[str, Any]]
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 1 << 70, 0.5, 1e308, 1e-320, float("nan"), float("inf")),
    *("", "x", "a\nb\x1b[31m", "<b>", [], {}, [0, 0, 0], [0.1, 0.5, 0.9], [1, 0, 1], [[[]]]),
    *({"kind": "flip", "x": float("nan")}, {"kind": ["list"]}, {"sdc1": [0, 1e-320, 1]}),
)

ENDS = (0.0, 5e-324, 1e-320, 1e-13, 1e-9, 0.004, 0.5, 1 - 1e-12, 1.0)


def test_a_summary_is_read_from_the_file_or_its_folder(make_campaign: MakeCampaign) -> None:
    folder = make_campaign()
    summary = read_summary(folder)
    assert summary == read_summary(folder / "summary.json")
    assert len(summary.cells) == 480
    assert summary.campaign.golden_acc is not None
    assert summary.campaign.golden_acc.value == 0.951


def test_optional_facts_and_unknown_keys_do_no_harm(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["later"] = 1
    told["campaign"] = {
        key: told["campaign"][key] for key in ("model", "data", "images", "trials", "planned")
    }
    del told["channels"], told["convergence"]
    text = render_campaign(read_summary(make_campaign(told)))
    assert text.count("not recorded") > 3


def test_slices_keep_sites_apart_and_have_no_shared_total(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    told["cells"] += [cell | {"site": "bias"} for cell in told["cells"]]
    parts = slices(read_summary(make_campaign(told)))
    assert [part.title for part in parts] == [
        "flip in weight (weight alone)",
        "flip in weight (bias alone)",
    ]
    assert [part.row(None, None) for part in parts] == [None, None]
    assert parts[1].bit_numbers == (7, 6, 5, 4, 3, 2, 1, 0)


def test_groups_of_one_name_are_told_apart_by_their_extent(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1, rates=(1e-3, 1e-2))
    told["groups"] = [group | {"label": "flip"} for group in told["groups"]]
    read = read_summary(make_campaign(told))
    labels = [read.label(each.group) for each in read.groups]
    assert labels == ["flip, one place", "flip, rate 0.001", "flip, rate 0.01"]


def test_what_was_never_tried_makes_no_slice(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    told["cells"] += [cell | {"site": "bias", "trials": 0, "rates": {}} for cell in told["cells"]]
    assert [part.site for part in slices(read_summary(make_campaign(told)))] == ["weight"]


def test_trials_of_all_kinds_together_may_have_a_group_of_their_own(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2, together=True)
    told["groups"] = [told["groups"][0] | {"group": -1, "label": "everything"}]
    for name in ("layers", "bits", "cells"):
        told[name] = [row | {"trials": 0, "rates": {}} for row in told[name]]
    read = read_summary(make_campaign(told))
    assert slices(read) == []
    assert "everything" in render_campaign(read)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema: should be 1, got 2"),
        ({"totals": 1}, "totals: should be a valid array"),
        ({"outcomes": ["masked"]}, "totals: wanted rates of 'outcomes', got 'due'"),
        ({"groups": []}, "totals: wanted a group of 'groups', got 0"),
        ({"layers": [{}]}, "layers.0.group: wanted a value, none came (and 3 more problems)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    change: dict[str, Any], message: str, make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    folder = make_campaign({**summary(n_layers=2), **change})
    with pytest.raises(DataError) as caught:
        read_summary(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rate", [[0.5, 0.4, 0.6], [0, 0.5, 1.1], [0, 1], [-0.1, 0, 0], [0, "0", 1]]
)
def test_rates_are_ordered_fractions(
    rate: list[Any], make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["cells"][0]["rates"]["sdc1"] = rate
    with pytest.raises(DataError, match=r"cells\.0\.rates\.sdc1"):
        read_summary(make_campaign(told))


def test_a_cell_comes_once(make_campaign: MakeCampaign, summary: MakeSummary) -> None:
    told = summary(n_layers=1)
    told["cells"].append(told["cells"][0])
    with pytest.raises(
        DataError, match=r"cells: wanted each once, got '0 weight layer1\.0\.conv1 0"
    ):
        read_summary(make_campaign(told))


def test_lists_of_convergence_have_one_length(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["convergence"][0]["low"].pop()
    with pytest.raises(DataError, match="lists of one length"):
        read_summary(make_campaign(told))


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"null", b"{", b"[" * 100_000, b'{"schema": 1e999}', b'"\\ud800"']
)
def test_rubbish_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_summary(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_summary(tmp_path)


def test_a_damaged_summary_is_refused_or_shown_but_never_a_crash(
    make_campaign: MakeCampaign, summary: MakeSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing takes a hundred times as long as all the rest; a few pages are drawn.
    drawn = vl_convert.vegalite_to_svg
    chooser = random.Random(0)
    sound = summary(n_layers=2, bits=2, rates=(1e-3,))
    shown = 0
    for _ in range(120):
        told = copy.deepcopy(sound)
        for _ in range(chooser.randint(1, 2)):
            damage(told, chooser)
        folder = make_campaign(told)
        try:
            read = read_summary(folder)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
            continue
        fake = drawn if shown % 30 == 0 else empty_drawing
        monkeypatch.setattr(vl_convert, "vegalite_to_svg", fake)
        render_campaign(read)
        results_csv(read)
        results_latex(read)
        console_table(read)
        shown += 1
    assert 15 < shown < 105


def test_a_cut_off_summary_is_refused(make_campaign: MakeCampaign) -> None:
    path = make_campaign(n_layers=2, bits=2) / "summary.json"
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_summary(path)


def empty_drawing(*_: Any, **__: Any) -> str:
    return "<svg></svg>"


def damage(told: Any, chooser: random.Random) -> None:
    """Replace or remove something at a random depth, as often as not by what may stand there."""
    place = told
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = chooser.choice(keys)
        old, way = place[key], chooser.random()
        if isinstance(old, list) and len(old) == 3 and type(old[1]) is float and way < 0.7:
            place[key] = sorted(chooser.choices(ENDS, k=3))
        elif isinstance(old, dict | list) and way < 0.8:
            place = old
            continue
        elif isinstance(old, int) and way < 0.6:
            place[key] = chooser.choice((0, 1, 2, 63, (1 << 63) - 1))
        elif isinstance(old, float) and way < 0.6:
            place[key] = chooser.choice(ENDS)
        elif isinstance(old, str) and way < 0.6:
            place[key] = chooser.choice(("", "a\nb\x1b[31m", "[/b]", "é" * 300, "{{ x }}"))
        elif way < 0.9:
            place[key] = json.loads(json.dumps(chooser.choice(JUNK)))
        else:
            del place[key]
        return
