"""The notebooks of `examples/` run as they stand, and are stored with what they print."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def outputs_of(path: Path) -> list[dict[str, object]]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_three() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["approximate-multipliers", "critical-bits", "own-model"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_stored_with_results_and_without_places(path: Path) -> None:
    kinds = {output["output_type"] for output in outputs_of(path)}
    assert {"stream", "execute_result"} <= kinds <= {"stream", "execute_result", "display_data"}
    text = path.read_text("utf-8")
    assert "/tmp/" not in text
    assert str(Path.home()) + "/" not in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), *sys.path]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    stored = outputs_of(path)
    client.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    made = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {one["output_type"] for one in made} == {one["output_type"] for one in stored}
    assert "error" not in {one["output_type"] for one in made}
