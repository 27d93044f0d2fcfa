"""What the command line makes of warnings."""

import warnings

import pytest

from bitproof.cli.outcome import plain_warnings
from bitproof.core.errors import BitproofWarning


@pytest.mark.filterwarnings("default")
def test_a_deliberate_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), plain_warnings():
        warnings.warn("mine.csv: looks wrong", BitproofWarning, stacklevel=1)
    assert capsys.readouterr().err == "bitproof: warning: mine.csv: looks wrong\n"
