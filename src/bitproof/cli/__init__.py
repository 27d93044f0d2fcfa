"""Typer commands: parse arguments, call one function, print. No torch before it is needed."""

from bitproof.cli.app import app
from bitproof.cli.outcome import interruptible, plain_warnings, report_problems


def main() -> None:
    """Run the command line and exit; deliberate errors become one line and exit code 2."""
    with interruptible(), plain_warnings(), report_problems():
        app(prog_name="bitproof")
