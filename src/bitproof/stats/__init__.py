"""Intervals, sample sizes, stop rules, costs, energy, tidy result rows. No torch here."""

from bitproof.stats.clusters import cluster_rate, mean_rate, stratified_rate
from bitproof.stats.costs import Cost, pareto_front
from bitproof.stats.energy import (
    AccessCost,
    SafeRate,
    failing_words,
    safe_rate,
    secded_bits,
    storage_of_secded,
)
from bitproof.stats.intervals import (
    Interval,
    clopper_pearson,
    difference,
    mean_interval,
    newcombe,
    student_half_width,
    tango,
    wilson,
)
from bitproof.stats.results import Row, read_results, write_results
from bitproof.stats.sample_size import allocate, sample_size
from bitproof.stats.stopping import STOP_RULES, ConfidenceSequence, FixedLooks, StopRule
from bitproof.stats.voltage import PUBLISHED, VoltageTable, read_voltage_table

__all__ = [
    "PUBLISHED",
    "STOP_RULES",
    "AccessCost",
    "ConfidenceSequence",
    "Cost",
    "FixedLooks",
    "Interval",
    "Row",
    "SafeRate",
    "StopRule",
    "VoltageTable",
    "allocate",
    "clopper_pearson",
    "cluster_rate",
    "difference",
    "failing_words",
    "mean_interval",
    "mean_rate",
    "newcombe",
    "pareto_front",
    "read_results",
    "read_voltage_table",
    "safe_rate",
    "sample_size",
    "secded_bits",
    "storage_of_secded",
    "stratified_rate",
    "student_half_width",
    "tango",
    "wilson",
    "write_results",
]
