"""Intervals and tidy result rows. No torch here."""

from bitproof.stats.intervals import Interval, mean_interval, wilson
from bitproof.stats.results import Row, read_results, write_results

__all__ = ["Interval", "Row", "mean_interval", "read_results", "wilson", "write_results"]
