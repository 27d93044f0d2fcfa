"""Typer commands: parse arguments, call one function, print. No torch before it is needed."""

import sys

from bitproof.cli.app import app
from bitproof.cli.outcome import report_problems


def main() -> None:
    """Run the command line; deliberate errors become one line and exit code 2."""
    with report_problems():
        app(prog_name="bitproof", standalone_mode=True)
    sys.exit(0)
