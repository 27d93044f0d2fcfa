import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bitproof
from bitproof.approx import Truncated


def test_every_name_of_the_root_can_be_had() -> None:
    assert {"quantize", "Evaluation", "run", "__version__"} <= {*bitproof.__all__}
    for name in bitproof.__all__:
        assert getattr(bitproof, name)
    with pytest.raises(AttributeError, match="module 'bitproof' has no attribute 'quantise'"):
        _ = bitproof.quantise  # type: ignore[attr-defined]


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
    assert len(told) == 12
    assert len(names) > 30
    for name in names:
        if name != "with":
            first, _, inner = name.partition(".")
            assert hasattr(getattr(bitproof, first), inner or "__doc__")


def test_every_path_of_the_api_may_be_a_text() -> None:
    asked = []
    for name in bitproof.__all__:
        value = getattr(bitproof, name)
        functions = [value] if inspect.isroutine(value) else []
        if inspect.isclass(value):
            public = (each for key, each in inspect.getmembers(value) if not key.startswith("_"))
            functions = [one for one in public if inspect.isroutine(one)]
            fields = getattr(value, "model_fields", {}).values()
            assert not any("Path" in str(field.annotation) for field in fields), name
        ours = (one for one in functions if str(one.__module__).startswith("bitproof"))
        for function in ours:
            for parameter in inspect.signature(function).parameters.values():
                told = str(parameter.annotation)
                if "Path" in told:
                    asked.append(f"{name} {parameter.name}")
                    assert "str" in told, f"{name}: {parameter}"
    assert {"load_network path", "run out", "read_recipe path", "load_weights path"} <= {*asked}


def test_files_are_written_and_read_by_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    bitproof.save_weights(model, "w.safetensors")
    loaded = bitproof.load_weights(model, "w.safetensors")
    assert torch.equal(loaded.state_dict()["1.weight"], model.state_dict()["1.weight"])
    network = bitproof.quantize(model, torch.rand(8, 1, 2, 2))
    bitproof.save_network(network, "network")
    again = bitproof.load_network("network")
    assert again.digest() == network.digest()
    assert bitproof.with_multipliers(again, Truncated(columns=2), data_dir=".").products
    recipe = 'name = "a"\nmodel = "digits_cnn"\ndata = "digits"\nweights = "w"\n'
    Path("a.toml").write_text(recipe)
    assert bitproof.read_recipe("a.toml").name == "a"


@pytest.mark.slow
def test_an_editor_knows_the_names_and_what_they_give(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import bitproof as bp\n"
        'splits = bp.load_data("digits")\n'
        'model = bp.build_model("digits_cnn", splits)\n'
        "reveal_type(bp.quantize(model, splits.train.inputs()))\n"
        "reveal_type(bp.evaluate({}, splits.test))\n"
        "bp.train_model(model, splits.train, progress=bp.show_progress())\n"
        "bp.quantise(model)\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-error-summary"]
    environment = os.environ | {"MYPYPATH": str(Path(bitproof.__file__).parents[1])}
    done = subprocess.run(
        [*command, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    told = [line.partition("script.py:")[2] for line in done.stdout.splitlines()]
    assert told == [
        '4: note: Revealed type is "bitproof.quant.network.IntegerNetwork"',
        '5: note: Revealed type is "list[bitproof.stats.results.Row]"',
        '7: error: Module has no attribute "quantise"  [attr-defined]',
    ]
