"""All figures of a run, campaign or search, in order, and as files for papers."""

from collections.abc import Sequence
from pathlib import Path

from bitproof.report.campaign_charts import campaign_figures
from bitproof.report.campaign_summary import SUMMARY, read_summary
from bitproof.report.cost_charts import cost_figures
from bitproof.report.energy_charts import energy_figures
from bitproof.report.exploration_charts import exploration_figures
from bitproof.report.exploration_page import is_exploration, read_exploration
from bitproof.report.figures import FORMATS, Figure, check_formats, unique, write_figures
from bitproof.report.front_charts import front_figures
from bitproof.report.matrix_charts import matrix_figures
from bitproof.report.run import Run, read_run
from bitproof.report.run_charts import accuracy_figures, stage_figures
from bitproof.report.scaling_charts import scaling_figures
from bitproof.report.weight_charts import weight_figures


def run_figures(run: Run) -> list[Figure]:
    """Return all figures of a run, in the order of its page."""
    made = (
        accuracy_figures,
        front_figures,
        energy_figures,
        cost_figures,
        weight_figures,
        scaling_figures,
        stage_figures,
    )
    return unique([figure for make in made for figure in make(run)])


def draw_figures(
    directory: Path, out: Path | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every figure of a run, campaign or search, with its numbers as CSV; return the paths.

    Args:
        directory: of the run or campaign.
        out: folder of the files; `figures` in that directory, if None.
        formats: some of `svg`, `png` and `pdf`.

    Raises:
        DataError: a file of the directory is missing or malformed, or there is no such format.
        StorageError: the disk is full, or the place cannot be written.
    """
    check_formats(formats)
    if is_exploration(directory):
        figures = exploration_figures(read_exploration(directory))
    elif (directory / SUMMARY).is_file():
        figures = campaign_figures(read_summary(directory))
    else:
        run = read_run(directory)
        figures = run_figures(run) + matrix_figures(run)
    return write_figures(figures, out or directory / "figures", formats)
