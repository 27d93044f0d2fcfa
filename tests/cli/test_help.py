"""Help: options in groups, examples that parse, on narrow terminals too; completion."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bitproof.cli.app import app
from bitproof.cli.completion import FETCHED, kind_of, kinds_in
from bitproof.cli.describe import REGISTRIES
from bitproof.cli.examples import EXAMPLES
from bitproof.cli.help import COMMANDS, GROUPS
from bitproof.recipe.fetching import everything


def commands(group: Any = None, context: Any = None) -> Iterator[tuple[str, Any, Any]]:
    if group is None:
        group = get_command(app)
        context = group.make_context("bitproof", [], resilient_parsing=True)
    for name in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [name])
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        if hasattr(command, "list_commands"):
            yield from commands(command, inner)
        else:
            yield inner.command_path.removeprefix("bitproof "), command, context


ALL = {path: (command, context) for path, command, context in commands()}


@pytest.mark.parametrize("path", sorted(EXAMPLES.keys() - {""}))
def test_examples_parse(path: str) -> None:
    command, parent = ALL[path]
    for line in EXAMPLES[path]:
        words = shlex.split(line.removeprefix(f"bitproof {path}"))
        assert line.startswith(f"bitproof {path}")
        command.make_context(path, words, parent=parent)


def test_every_main_command_has_examples_and_a_place() -> None:
    placed = {name for names in COMMANDS.values() for name in names}
    for path in ALL:
        assert " " in path or path in EXAMPLES, path
        assert path.split()[0] in placed, path


@pytest.mark.parametrize("path", ["", "inject", "data fetch", "circuit", "multipliers show"])
def test_help_fits_a_narrow_terminal(path: str) -> None:
    words, runner = path.split(), CliRunner()
    short, long = (
        runner.invoke(app, [*words, flag], terminal_width=50).output for flag in ("-h", "--help")
    )
    assert short == long
    told = short.partition("\nExamples:")[0]
    assert max(map(len, told.splitlines())) <= 50
    assert "-h, --help" in told or "--help, -h" in told


def test_options_stand_in_groups() -> None:
    told = CliRunner().invoke(app, ["inject", "-h"], env={"COLUMNS": "80"}).output
    titles = [line.rstrip(":") for line in told.splitlines() if line.endswith(":")]
    groups = ["Arguments", "Options", *GROUPS, "Examples"]
    assert [title for title in titles if title in groups] == groups
    assert "[default: cpu]" in told


def test_shells_complete_the_kinds_that_there_are() -> None:
    for name, kinds in {
        "MODELS": REGISTRIES["models"].kinds(),
        "DATA": REGISTRIES["data"].kinds(),
        "WEIGHT_ATTACKS": REGISTRIES["weight_attacks"].kinds(),
        "TASKS": REGISTRIES["tasks"].kinds(),
        "MULTIPLIERS": REGISTRIES["multipliers"].kinds(),
        "HARDEN": REGISTRIES["hardening"].kinds(),
    }.items():
        assert kinds_in(name) == kinds
    assert kind_of("MODELS")("resnet2") == ["resnet20"]
    assert {row.kind for row in everything(None)} == {*FETCHED}


def test_completion_needs_no_torch() -> None:
    script = (
        "import sys; from bitproof.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    asked = {"_BITPROOF_COMPLETE": "complete_bash", "COMP_WORDS": "bitproof inject --model le"}
    environment = os.environ | asked | {"COMP_CWORD": "3"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["lenet5", "False"]
