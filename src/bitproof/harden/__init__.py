"""harden."""
