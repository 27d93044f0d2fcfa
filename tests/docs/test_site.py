"""What the site is made of: no component, command or page is left out."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from bitproof.cli.describe import REGISTRIES, TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return import_module("bitproof_site")


def test_every_component_has_a_section_with_its_fields(site: ModuleType) -> None:
    pages = site.component_pages()
    for name, registry in REGISTRIES.items():
        page = pages[f"components/{name}.md"]
        assert f"\n{name}\n" in pages["components/index.md"]
        for kind in registry.kinds():
            section = page.partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
            fields = set(registry.find(kind).model_fields) - {"kind"}
            assert section
            assert fields <= {line.split("`")[1] for line in section.splitlines() if "| `" in line}
    assert {f"## {name}" for name in TABLES} <= {*pages["components/recipe.md"].splitlines()}


def test_every_command_has_a_section_with_its_options(site: ModuleType) -> None:
    page = site.command_page()
    sections = {part.partition("\n")[0].lstrip("# "): part for part in page.split("\n##")}
    assert {"bitproof run", "bitproof data fetch", "bitproof multipliers show"} <= {*sections}
    assert {"bitproof circuit report", "bitproof describe"} <= {*sections}
    for option in ("--margin", "--site", "--shard", "--data-dir"):
        assert f"`{option}" in sections["bitproof inject"]


def test_every_page_is_in_a_list(site: ModuleType) -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    others = list(site.other_pages(ROOT / "docs", index))
    named = index.splitlines()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or (page.stem in others) != (page.stem in named)


def test_public_names_have_one_place(site: ModuleType) -> None:
    pages = site.api_pages()
    assert ".. autofunction:: bitproof.quant.quantize\n" in pages["quant.rst"]
    assert ".. autofunction:: bitproof.recipe.verbs.evaluate\n" in pages["recipe.rst"]
    assert ":py:class:`bp.Scheme <bitproof.quant.Scheme>`" in pages["python.rst"]
    lines = [line for page in pages.values() for line in page.splitlines() if ".. auto" in line]
    assert len(lines) == len({*lines}) > 200


def test_links_lead_to_pages_of_the_site(site: ModuleType) -> None:
    text = (
        "[a](docs/x.md) [b](CHANGELOG.md) [c](LICENSE) [d](examples/own-model.ipynb) [e](recipes/)"
    )
    assert site.links_of_root(text, "index.md") == (
        "[a](x.md) [b](reference/changelog.md) c [d](examples/own-model.ipynb) e"
    )
    text = "[a](../README.md#two) [b](../examples/own-model.ipynb) [c](../recipes/x.toml) [d](x.md)"
    assert site.links_of_docs(text) == (
        "[a](index.md#two) [b](examples/own-model.ipynb) c [d](x.md)"
    )


def test_signatures_keep_their_shapes(site: ModuleType) -> None:
    signatures = import_module("signatures")
    from bitproof.faults import RandomFlips, flip_bits  # noqa: PLC0415

    written = signatures.written_signature(None, "function", "", flip_bits, None, "", "")
    assert written[0] == "(words: Int64[Tensor, 'w'], bit: Int64[Tensor, 'w'], grid: Grid)"
    assert signatures.written_signature(None, "class", "", RandomFlips, None)[0] == "(*, ber)"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        f"{tmp_path}/trees",
    ]
    done = subprocess.run(
        [*command, "docs", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for page in ("index", "glossary", "reference/commands", "examples/own-model"):
        assert (tmp_path / "site" / f"{page}.html").is_file()
