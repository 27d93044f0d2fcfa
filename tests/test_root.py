import re
import subprocess
import sys

import pytest

import bitproof


def test_every_name_of_the_root_can_be_had() -> None:
    assert {"quantize", "Evaluation", "run", "__version__"} <= {*bitproof.__all__}
    for name in bitproof.__all__:
        assert getattr(bitproof, name)
    with pytest.raises(AttributeError, match="module 'bitproof' has no attribute 'quantise'"):
        _ = bitproof.quantise


def test_the_root_brings_torch_only_when_it_is_needed() -> None:
    told = "print('torch' in sys.modules)"
    ask = f"import sys, bitproof; {told}; bitproof.quantize; {told}"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_dir_lists_every_name() -> None:
    assert {*bitproof.__all__, "__doc__"} <= {*dir(bitproof)}
    assert "TYPE_CHECKING" not in dir(bitproof)


def test_the_overview_names_what_there_is() -> None:
    told = re.findall(r"^    (?:data|models|\w+)  +(\S.*)$", bitproof.__doc__ or "", re.MULTILINE)
    names = [name for line in told for name in re.findall(r"\b[A-Za-z]\w+(?:\.\w+)?", line)]
    assert len(told) == 10
    assert len(names) > 30
    for name in names:
        if name != "with":
            first, _, inner = name.partition(".")
            assert hasattr(getattr(bitproof, first), inner or "__doc__")
