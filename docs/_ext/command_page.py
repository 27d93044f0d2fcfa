"""The page of all commands, made from what the command line itself says."""

from collections.abc import Iterator
from typing import Any

from text import cell, table
from typer.main import get_command

from bitproof.cli.app import app
from bitproof.cli.help import HELP, examples_of, option_groups

HEAD = """# Commands

What `bitproof COMMAND --help` prints, for all commands. Exit codes: 0, 2 for what a user
can cause (one line says what), 130 after Ctrl-C, 143 after SIGTERM.
"""


def command_page() -> str:
    """Return the page, in Markdown."""
    root = get_command(app)
    context = root.make_context("bitproof", [], resilient_parsing=True)
    return "\n".join([HEAD, *_sections(root, context, level=2)])


def _sections(group: Any, context: Any, *, level: int) -> Iterator[str]:
    for name in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [name])
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        yield f"{'#' * level} {inner.command_path}\n"
        yield f"{command.help or ''}\n"
        if hasattr(command, "list_commands"):
            yield from _sections(command, inner, level=level + 1)
            continue
        usage = command.get_usage(inner).removeprefix("Usage: ")
        yield f"```text\n{' '.join(usage.split())}\n```\n"
        for title, records in option_groups(command, inner).items():
            if title != HELP:
                yield table((title, ""), [(f"`{name}`", cell(words)) for name, words in records])
        if examples := examples_of(inner.command_path):
            yield "\n".join(["```text", *examples, "```", ""])
