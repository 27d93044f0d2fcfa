"""The README's Python examples run as they stand; commands of all pages have such options."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bitproof.cli.app import app

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


PAGES = [Path(__file__).parents[1] / "README.md", *Path(__file__).parents[1].glob("docs/*.md")]
PLACEHOLDERS = re.compile(r"[\[\]|{}<>]|\.\.\.|--[A-Z]")
"""What tells that a line is a form, not a command."""


def commands_in(text: str) -> list[str]:
    """Return the commands of a page, without comments and forms."""
    lines = re.findall(r"^ {4}(?:\$ )?(?:\S+=\S+ )*bitproof (.+)$", text, re.MULTILINE)
    parts = [re.split(r"\s{2,}|\s#|\s&&\s|;\s", line)[0].strip() for line in lines]
    return [part for part in parts if part[0] != "-" and not PLACEHOLDERS.search(part)]


def parse(words: list[str]) -> None:
    """Parse as the command line does, without carrying anything out."""
    command: Any = get_command(app)
    context = command.make_context("bitproof", [], resilient_parsing=True)
    while hasattr(command, "list_commands"):
        name, command, words = command.resolve_command(context, words)
        if hasattr(command, "list_commands"):
            context = command.make_context(name, [], parent=context, resilient_parsing=True)
    command.make_context(name, words, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse(page: Path) -> None:
    for command in commands_in(page.read_text("utf-8")):
        try:
            parse(shlex.split(command))
        except Exception as error:  # whichever of click's
            pytest.fail(f"{page.name}: bitproof {command}: {error}")


def test_pages_have_commands() -> None:
    assert len(commands_in(TEXT)) > 1
    assert sum(len(commands_in(page.read_text("utf-8"))) for page in PAGES) > 40


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
