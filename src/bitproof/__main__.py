"""Where `bitproof` and `python -m bitproof` start: first the signals, then everything else."""

from bitproof.cli import main as run_command_line
from bitproof.cli.signals import LeaveAtOnce, handle


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM are one line from here to the very end."""
    handle(LeaveAtOnce())
    run_command_line()


if __name__ == "__main__":
    main()
