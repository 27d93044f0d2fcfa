"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


LESS = {
    "epochs=8": "epochs=1",
    "epochs=4": "epochs=1",
    "steps=3": "steps=1",
    "images=200": "images=9",
}


def run_block(number: int, text: str) -> None:
    exec(compile(text, f"README.md block {number}", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    run_block(number, BLOCKS[number])
    assert capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example_runs_with_less_work(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = BLOCKS[number]
    for much, little in LESS.items():
        text = text.replace(much, little)
    run_block(number, text)
    assert capsys.readouterr().out


def test_there_are_two_examples() -> None:
    assert len(BLOCKS) == 2
