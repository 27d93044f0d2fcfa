import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.core.flags import pack_flags, unpack_flags, unpack_right


@given(st.lists(st.booleans(), max_size=40))
def test_flags_are_read_as_they_were_written(flags: list[bool]) -> None:
    assert list(unpack_flags(pack_flags(bytes(flags)), len(flags))) == flags
    assert list(unpack_right(pack_flags(bytes(flags)), sum(flags), len(flags)) or b"") == flags


@pytest.mark.parametrize("text", ["gYA", "gYA=x", "g\u00e4A=", "gQ==", "gYAA", "gcA="])
def test_text_that_is_no_nine_flags_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whoever reads a log names the line)
        unpack_flags(text, 9)


def test_flags_that_miss_the_count_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted 2 right answers, got 3"):
        unpack_right("gYA=", 2, 9)
    assert unpack_right(None, 2, 9) is None
