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
