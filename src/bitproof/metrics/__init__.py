"""Outcomes from outputs: which answers are right, what a fault changed, what a curve comes to.

- `task`: what a task is; `classes`, `dense`, `regression`, `own`: the tasks; `guess`: which one.
- `tally`: counts that add up; `outcomes`: those of a classification; `area`: of a curve.
"""

from bitproof.metrics.area import area_over_decades
from bitproof.metrics.classes import Binary, Classification, MultiLabel
from bitproof.metrics.dense import Segmentation, Sequence
from bitproof.metrics.guess import Ending, guess_task
from bitproof.metrics.outcomes import OUTCOMES, outcomes
from bitproof.metrics.own import Own, read_task
from bitproof.metrics.regression import Regression
from bitproof.metrics.tally import Tally, metrics_of, tally
from bitproof.metrics.task import TASKS, AnyTask, Task

__all__ = [
    "OUTCOMES",
    "TASKS",
    "AnyTask",
    "Binary",
    "Classification",
    "Ending",
    "MultiLabel",
    "Own",
    "Regression",
    "Segmentation",
    "Sequence",
    "Tally",
    "Task",
    "area_over_decades",
    "guess_task",
    "metrics_of",
    "outcomes",
    "read_task",
    "tally",
]
