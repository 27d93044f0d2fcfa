"""Every module that there is a rule for, exported: ONNX Runtime gives the same logits, bit for bit.

The cases are those of `tests/quant/test_rules.py`.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bitproof.core.rng import make_generator
from bitproof.exchange import check_onnx, export_onnx
from bitproof.quant import AffineQuantizer, Scheme, quantize

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SCHEMES = (
    Scheme("accurate"),
    Scheme(),
    Scheme("normal", activation_rounding="truncate", activation_signed=True),
    Scheme(weight=AffineQuantizer(bits=4), bias=None, activation_bits=4, activation_signed=True),
)


def rules() -> ModuleType:
    path = Path(__file__).parents[1] / "quant" / "test_rules.py"
    spec = importlib.util.spec_from_file_location("rules_to_export", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KNOWN = rules()


@pytest.mark.parametrize("name", [*KNOWN.RULES, *KNOWN.EXPORTED, *KNOWN.TOKENS])
def test_rule(name: str, tmp_path: Path) -> None:
    makes = {**KNOWN.RULES, **KNOWN.EXPORTED, **KNOWN.TOKENS}
    generator = make_generator(0, "rules")
    if name in KNOWN.TOKENS:
        inputs = torch.randint(KNOWN.VOCABULARY, (7, KNOWN.LENGTH), generator=generator)
    else:
        inputs = torch.rand(7, *KNOWN.IMAGES, generator=generator)
    for number, scheme in enumerate(SCHEMES):
        network = quantize(KNOWN.build(makes[name]), inputs, scheme)
        for form in ("qdq", "integer"):
            path = tmp_path / f"{number}.onnx"
            export_onnx(network, path, form=form)
            found = check_onnx(network, path, inputs, threads=1)
            assert found.exact, (form, scheme, found)
        if scheme.activation_rounding == "nearest" and scheme.activation_bits == 8:
            export_onnx(network, path, form="portable")
            found = check_onnx(network, path, inputs, threads=1)
            assert found.largest < 0.2 * float(network(inputs).abs().max()), (scheme, found)
