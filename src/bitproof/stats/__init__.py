"""Intervals, sample sizes, stop rules, costs and fronts, tidy result rows. No torch here."""

from bitproof.stats.clusters import cluster_rate, mean_rate, stratified_rate
from bitproof.stats.costs import Cost, pareto_front
from bitproof.stats.intervals import (
    Interval,
    clopper_pearson,
    difference,
    mean_interval,
    newcombe,
    student_half_width,
    wilson,
)
from bitproof.stats.results import Row, read_results, write_results
from bitproof.stats.sample_size import allocate, sample_size
from bitproof.stats.stopping import STOP_RULES, ConfidenceSequence, FixedLooks, StopRule

__all__ = [
    "STOP_RULES",
    "ConfidenceSequence",
    "Cost",
    "FixedLooks",
    "Interval",
    "Row",
    "StopRule",
    "allocate",
    "clopper_pearson",
    "cluster_rate",
    "difference",
    "mean_interval",
    "mean_rate",
    "newcombe",
    "pareto_front",
    "read_results",
    "sample_size",
    "stratified_rate",
    "student_half_width",
    "wilson",
    "write_results",
]
