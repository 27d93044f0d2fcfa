"""The version of the package, where every subpackage can read it."""

__version__ = "0.1.0"
