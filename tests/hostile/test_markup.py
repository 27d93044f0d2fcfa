"""Titles, sources, names of data, models and layers, and warnings that look like HTML stay text."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.manifest import MANIFEST
from bitproof.recipe import ExplorationRecipe, explore_recipe, inject_recipe, read_recipe, run
from bitproof.recipe.injection import InjectionRecipe
from bitproof.recipe.toml import read_spec
from bitproof.report import write_campaign_report, write_campaign_tables, write_report
from bitproof.report.exploration_page import write_exploration_report

pytestmark = pytest.mark.slow

MARK = "xq7"
HOSTILE = [
    f"</title></style></script></svg><script>{MARK}()</script><img src=x onerror={MARK}()>",
    f"\"' onmouseover={MARK}() style='x' {MARK}=\"",
    f'javascript:{MARK}() <a href="javascript:{MARK}()">&lt;{MARK}&gt; &amp; &#60;b&#62; ]]> <!-- ',
    f"{{{{ {MARK} }}}} {{% raw %}} $\\{MARK}{{$ $ \\ _ ^ % \u2028 \x1b[31m {MARK}",
]


class Structure(HTMLParser):
    """All elements of a page with their attributes; text is passed over."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.followed: list[str] = []
        """What links and sources point to."""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.followed += [f"{value}" for name, value in attrs if name.endswith(("href", "src"))]


def write_campaign(folder: Path, *, interactive: bool) -> Path:
    write_campaign_tables(folder)
    return write_campaign_report(folder, interactive=interactive)


KINDS: dict[str, tuple[Callable[[Path, Path], object], Callable[..., Path]]] = {
    "run": (lambda recipe, out: run(read_recipe(recipe), out, device="cpu"), write_report),
    "inject": (
        lambda recipe, out: inject_recipe(read_spec(recipe, InjectionRecipe), out),
        write_campaign,
    ),
    "explore": (
        lambda recipe, out: explore_recipe(
            read_spec(recipe, ExplorationRecipe), out, recipe_dir=recipe.parent
        ),
        write_exploration_report,
    ),
}


def spoiled(value: Any, names: set[str], text: str) -> Any:
    """Return JSON values with a text in place of every name."""
    if isinstance(value, dict):
        return {spoiled(key, names, text): spoiled(one, names, text) for key, one in value.items()}
    if isinstance(value, list):
        return [spoiled(one, names, text) for one in value]
    if isinstance(value, str) and value in names:
        return f"{value} {text}"
    return value.replace(MARK, text) if isinstance(value, str) else value


def spoil(folder: Path, text: str) -> None:
    """Write a text in place of titles, layers and data, wherever a report reads them."""
    (folder / MANIFEST).unlink()  # which would tell
    layers = {
        node["name"]
        for path in [*folder.glob("network.json"), *folder.glob("networks/*.json")]
        for node in json.loads(path.read_text())["nodes"]
    }
    for path in [
        *(folder / name for name in ("run.json", "summary.json", "exploration.json")),
        *folder.glob("records/*.json"),
        *folder.glob("statistics/*.json"),
    ]:
        if path.exists():
            content = spoiled(json.loads(path.read_text()), {*layers, "digits", "digits_cnn"}, text)
            if path.name == "run.json":
                content["warnings"] = [text]
            path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_becomes_markup(kind: str, recipes: Path, tmp_path: Path) -> None:
    work, write = KINDS[kind]
    recipe, out = recipes / f"{kind}.toml", tmp_path / "out"
    told = recipe.read_text().replace("\nname =", f'\ntitle = "{MARK}"\nsource = "{MARK}"\nname =')
    recipe.write_text(told)
    work(recipe, out)
    for interactive in (False, True):
        pages = []
        for number, text in enumerate(["plain", *HOSTILE]):
            folder = tmp_path / f"{number}-{interactive}"
            shutil.copytree(out, folder)
            spoil(folder, text)
            page = Structure(write(folder, interactive=interactive).read_text())
            assert not [one for one in page.followed if MARK in one or "script:" in one]
            pages.append([one for one in page.elements if one[0] in MARKUP])
            assert pages[-1] == pages[0], text
            assert not [name for _, names in page.elements for name in names if MARK in name]


MARKUP = {"script", "img", "a", "style", "svg", "title", "iframe", "b", "link", "table", "section"}
"""Elements whose number does not depend on how long a text is, as that of glyphs and lines does."""
