"""Typer commands: parse arguments, call one function, print. No torch before it is needed."""

from bitproof.cli.signals import LeaveAtOnce, handled


def main() -> None:
    """Run the command line and exit; deliberate errors become one line and exit code 2."""
    with handled(LeaveAtOnce()):
        from bitproof.cli.app import app
        from bitproof.cli.outcome import plain_warnings, report_problems

        with plain_warnings(), report_problems(LeaveAtOnce()):
            app(prog_name="bitproof")
