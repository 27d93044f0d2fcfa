"""Typer commands: parse arguments, call one function, print."""


def main() -> None:
    """Run the command line."""
