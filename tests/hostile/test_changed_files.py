"""Every file of a directory changed in every way: noticed or healed, never silent."""

import pytest

from tests.hostile.changed_files import CASES, tried


@pytest.mark.slow
@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_no_change_is_silent(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = tried(only=case)
    with capsys.disabled():
        print("", *table.lines(), sep="\n")  # noqa: T201 - figures of the slow run
    assert not table.failures
    assert sum(found.total() for found in table.counts.values()) > 20
