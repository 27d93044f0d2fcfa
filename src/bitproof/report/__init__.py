"""Reads a run directory; makes one offline HTML page and a table for the console."""

from bitproof.report.html import write_report
from bitproof.report.table import result_table

__all__ = ["result_table", "write_report"]
