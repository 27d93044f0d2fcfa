import errno
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import BitproofError, DataError, ResumeError, StorageError
from bitproof.injection.directory import CampaignDirectory

PLAN: dict[str, Any] = {
    "spec": {"site": "weight", "n_trials": 1000, "confidence": 0.95},
    "fingerprint": {
        "network": "ab" * 32,
        "data": {"name": "digits", "images": [0, 200]},
        "versions": {"bitproof": "0.1.0", "torch": "2.9.0"},
    },
    "chunks": [[0, 500], [500, 1000]],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def campaign(tmp_path: Path) -> CampaignDirectory:
    return CampaignDirectory(tmp_path / "campaign")


def changed(**fingerprint: Any) -> dict[str, Any]:
    return {**PLAN, "fingerprint": {**PLAN["fingerprint"], **fingerprint}}


def test_the_plan_comes_back(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN)
    assert campaign.read_plan() == PLAN
    assert sorted(path.name for path in campaign.path.iterdir()) == [
        "bitproof-manifest.json",
        "plan.json",
    ]


def test_a_begun_campaign_goes_on_only_when_asked(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN, resume=True)
    before = campaign.plan.stat()
    written = before.st_mtime_ns, before.st_ino
    with pytest.raises(ResumeError, match=r"holds a campaign already; go on with --resume, or cho"):
        campaign.begin(PLAN)
    campaign.begin(PLAN, resume=True)
    after = campaign.plan.stat()  # its time of access may differ
    assert (after.st_mtime_ns, after.st_ino) == written


def test_each_difference_of_the_fingerprint_is_named(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN)
    other = changed(
        network="cd" * 32,
        data={"name": "digits", "images": [0, 300], "seed": 1},
        versions={"bitproof": "0.1.0"},
    )
    with pytest.raises(ResumeError) as caught:
        campaign.begin(other, resume=True)
    problem = str(caught.value).removeprefix(f"{campaign.path}: belongs to another campaign. ")
    assert problem.split("; ") == [
        f"network: {'ab' * 32} before, {'cd' * 32} now",
        "data.images: [0, 200] before, [0, 300] now",
        "data.seed: nothing before, 1 now",
        "versions.torch: 2.9.0 before, nothing now",
    ]
    assert campaign.read_plan() == PLAN


def test_what_does_not_decide_the_result_may_change(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN)
    campaign.begin({**PLAN, "workers": 16}, resume=True)
    assert campaign.read_plan() == PLAN


def test_tuples_and_numbers_as_keys_are_no_difference(campaign: CampaignDirectory) -> None:
    plan = changed(data={"images": (0, 200), 3: "three"})
    campaign.begin(plan)
    campaign.begin(plan, resume=True)


def test_of_many_that_begin_at_once_one_decides(campaign: CampaignDirectory) -> None:
    def begin(number: int) -> int | None:
        try:
            campaign.begin(changed(seed=number), resume=True)
        except ResumeError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(begin, range(16)) if number is not None]
    assert winners == [campaign.read_plan()["fingerprint"]["seed"]]


def test_clocks_do_not_matter(campaign: CampaignDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign.begin(PLAN)
    for now in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        for path in campaign.path.iterdir():
            os.utime(path, (now, now))
        campaign.begin(PLAN, resume=True)


# --- damage


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b'{"fingerprint": NaN}',
        b'{"fingerprint": {}}',
        b'{"fingerprint": 3, "sha256": [], "layout": {}}',
    ],
)
def test_a_damaged_plan_is_told_in_one_line(content: bytes, campaign: CampaignDirectory) -> None:
    campaign.path.mkdir()
    campaign.plan.write_bytes(content)
    for act in (campaign.read_plan, lambda: campaign.begin(PLAN, resume=True)):
        with pytest.raises(DataError, match=r"plan\.json: damaged") as caught:
            act()
        assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_plan_is_read_as_written_or_refused(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        campaign = CampaignDirectory(Path(folder))
        campaign.begin(PLAN)
        content = bytearray(campaign.plan.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(content)))
            end = data.draw(st.integers(start, min(start + 30, len(content))))
            content[start:end] = data.draw(st.binary(max_size=4) | st.sampled_from([b"}", b'"']))
        campaign.plan.write_bytes(content)
        try:
            found = campaign.read_plan()
        except BitproofError as error:
            found, problem = PLAN, str(error)
        else:
            problem = "none"
        assert found == PLAN
        assert "\n" not in problem


@given(JSON)
def test_any_other_json_is_refused(value: Any) -> None:
    with TemporaryDirectory() as folder:
        campaign = CampaignDirectory(Path(folder))
        campaign.plan.write_text(json.dumps(value))
        with pytest.raises(DataError):
            campaign.begin(PLAN, resume=True)


def test_a_plan_edited_by_hand_is_refused(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN)
    campaign.plan.write_text(campaign.plan.read_text().replace("1000", "2000"))
    with pytest.raises(DataError, match=r"damaged or edited \(its sha256 does not match\)"):
        campaign.read_plan()


def test_a_plan_of_another_layout_is_refused(campaign: CampaignDirectory) -> None:
    campaign.begin(PLAN)
    campaign.plan.write_text(campaign.plan.read_text().replace('"layout": 1', '"layout": 2'))
    with pytest.raises(DataError, match="layout 2, wanted 1"):
        campaign.read_plan()


def test_a_folder_without_a_plan_holds_no_campaign(campaign: CampaignDirectory) -> None:
    with pytest.raises(DataError, match=r"holds no campaign \(no plan\.json\)"):
        campaign.read_plan()


def test_places_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="wanted a campaign directory, this is a file"):
        CampaignDirectory(tmp_path / "file").begin(PLAN)
    with pytest.raises(StorageError, match="cannot lock"):
        CampaignDirectory(tmp_path / "file" / "deep").begin(PLAN)


def test_a_full_disk_leaves_no_plan(
    campaign: CampaignDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=r"json: cannot write \(No space left"):
            campaign.begin(PLAN)
    assert not list(campaign.path.iterdir())
    campaign.begin(PLAN)


def test_files_have_their_names(campaign: CampaignDirectory) -> None:
    places = (
        campaign.plan,
        campaign.faults,
        campaign.network,
        campaign.parts,
        campaign.summary,
        campaign.results,
        campaign.report,
    )
    assert [str(path.relative_to(campaign.path)) for path in places] == [
        "plan.json",
        "faults.parquet",
        "network",
        "parts",
        "summary.json",
        "results.csv",
        "report.html",
    ]
