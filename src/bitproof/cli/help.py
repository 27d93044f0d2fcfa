"""What `--help` shows: options in groups, with examples; commands in groups, in full words."""

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from bitproof.cli.examples import EXAMPLES

ARGUMENTS, OPTIONS = "Arguments", "Options"
HELP = "Help"
GROUPS = {
    "Where results go": ("out", "resume", "yes", "json", "json_path"),
    "What computes": ("device", "workers", "engine", "shard", "threads"),
    "What it starts from": ("data_dir", "sets", "seed", "results", "work"),
    HELP: ("help", "version", "install_completion", "show_completion"),
}
"""Options that mean the same in all commands, by the name of their parameter."""
COMMANDS = {
    "Measure": ("demo", "run", "matrix", "evaluate", "inject", "explore", "flip", "check"),
    "Look at results": (
        *("report", "compare", "figures", "faults", "energy", "analyze", "verify"),
        "reproduce",
    ),
    "Bring in, take out": ("data", "import", "export"),
    "What there is": ("describe", "models", "multipliers", "circuit"),
}
"""Commands by what they are for; others stand at the end."""
OTHERS = "More"


class Command(TyperCommand):
    """A command whose help has its options in groups and ends with examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group of options."""
        write_groups(option_groups(self, ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, a line each."""
        write_examples(ctx.command_path, formatter)


class Group(TyperGroup):
    """A group of commands, told in full words."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then commands by what they are for."""
        options = option_groups(self, ctx)
        usual = options.pop(HELP, [])
        write_groups(options, formatter)
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = {name: (name, summary(one)) for name, one in found.items() if one and not one.hidden}
        known = COMMANDS if ctx.parent is None else {}
        groups = {
            title: [rows.pop(name) for name in names if name in rows]
            for title, names in known.items()
        }
        groups[OTHERS if known else "Commands"] = [*rows.values()]
        groups[HELP] = usual
        write_groups({title: rows for title, rows in groups.items() if rows}, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, a line each."""
        write_examples(ctx.command_path, formatter)


def dress(app: typer.Typer) -> None:
    """Let the commands of `app`, and those of its groups, show such help, and take `-h`."""
    app.info.context_settings = {"help_option_names": ["-h", "--help"]}
    if not isinstance(app.info.cls, type):
        app.info.cls = Group
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            dress(group.typer_instance)


def option_groups(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the help of each parameter, by the group that it stands in."""
    places = {name: title for title, names in GROUPS.items() for name in names}
    groups: dict[str, list[tuple[str, str]]] = {ARGUMENTS: [], OPTIONS: []}
    groups |= {title: [] for title in GROUPS}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            is_argument = parameter.param_type_name == "argument"
            title = ARGUMENTS if is_argument else places.get(parameter.name, OPTIONS)
            groups[title].append(record)
    return {title: rows for title, rows in groups.items() if rows}


def write_groups(groups: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    """Write each group under its title."""
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl(rows)


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    words = " ".join((command.help or "").split("\n\n")[0].split())
    return words.partition(". ")[0].rstrip(".")


def write_examples(path: str, formatter: Any) -> None:
    """Write the examples of a command as they are, whatever the width."""
    if examples := examples_of(path):
        with formatter.section("Examples"):
            for line in examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def examples_of(path: str) -> Iterable[str]:
    """Return the examples of the command of that path, such as `bitproof data fetch`."""
    return EXAMPLES.get(path.removeprefix("bitproof").strip(), ())
