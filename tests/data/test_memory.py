"""Free memory, as files of the system tell it."""

from pathlib import Path

import pytest

from bitproof.data import memory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all that the system says; nothing so far."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", [(tmp_path, *names) for _, *names in memory.GROUPS])
    return tmp_path


def test_what_a_control_group_has_taken_is_not_free(system: Path) -> None:
    assert memory.free_bytes() is None
    (system / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8 kB\n")
    assert memory.free_bytes() == 8192
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text("7000\n")
    assert memory.free_bytes() == 8192
    (system / "memory.max").write_text("8000\n")
    assert memory.free_bytes() == 1000
    (system / "memory.stat").write_text("anon 5000\ninactive_file 500\n")
    assert memory.free_bytes() == 1500
    (system / "memory.current").write_text("8001\n")
    (system / "memory.stat").write_text("damaged")
    assert memory.free_bytes() == 0


def test_the_first_version_of_control_groups_counts_as_well(system: Path) -> None:
    (system / "memory.limit_in_bytes").write_text("5000\n")
    assert memory.free_bytes() == 5000
    (system / "memory.usage_in_bytes").write_text("2000\n")
    (system / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 100\n")
    assert memory.free_bytes() == 3100
