"""Reads run and campaign directories; makes pages, figures, tables for console and paper."""

from bitproof.report.campaign_export import write_campaign_tables
from bitproof.report.campaign_page import write_campaign_report
from bitproof.report.campaign_summary import CampaignSummary, read_summary
from bitproof.report.console import ConsoleTable, console_table, corruption_lines, result_table
from bitproof.report.matrix_console import matrix_choices, matrix_lines
from bitproof.report.matrix_page import matrix_rows, write_matrix
from bitproof.report.run_page import write_report

__all__ = [
    "CampaignSummary",
    "ConsoleTable",
    "console_table",
    "corruption_lines",
    "matrix_choices",
    "matrix_lines",
    "matrix_rows",
    "read_summary",
    "result_table",
    "write_campaign_report",
    "write_campaign_tables",
    "write_matrix",
    "write_report",
]
