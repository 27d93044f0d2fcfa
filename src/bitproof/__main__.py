"""`python -m bitproof` is the command line."""

from bitproof.cli import main

main()
