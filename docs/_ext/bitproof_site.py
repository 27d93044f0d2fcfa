"""The pages that are made while the site is built: README, changelog, reference, notebooks.

`docs/reference/` and `docs/examples/` are made from the package and the root of the checkout and
are no part of it. A page of `docs/` that `index.md` does not name is added to its last list.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from api_pages import api_pages
from command_page import command_page
from component_pages import component_pages
from signatures import document_fields, escape_marks, resolve_public_name, written_signature

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
MADE = ("reference", "examples")
COPIED = {
    "CHANGELOG.md": "reference/changelog.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "SECURITY.md": "reference/security.md",
}
"""Pages of the root, and where the site has them."""
README = "<!-- README -->"
OTHERS = "<!-- OTHER PAGES -->"


def setup(app: Any) -> dict[str, bool]:
    """Join the build."""
    app.connect("builder-inited", lambda _app: write_pages(DOCS))
    app.connect("env-get-outdated", lambda *_: ["index"])  # what it lists may have changed
    app.connect("source-read", read_page)
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-process-docstring", escape_marks, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", document_fields)
    app.connect("missing-reference", resolve_public_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(docs: Path) -> None:
    """Write all pages that are made; those that have not changed keep their time."""
    pages = {"reference/commands.md": command_page()}
    pages |= {f"reference/{name}": text for name, text in api_pages().items()}
    pages |= {f"reference/{name}": text for name, text in component_pages().items()}
    for name, place in COPIED.items():
        pages[place] = links_of_root((ROOT / name).read_text("utf-8"), place)
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        text = notebook.read_text("utf-8")
        pages[f"examples/{notebook.name}"] = text.replace("](../docs/", "](../")
    for folder in MADE:
        (docs / folder).mkdir(exist_ok=True)
        for path in (docs / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(docs)) not in pages:
                path.unlink()
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def read_page(_app: Any, name: str, source: list[str]) -> None:
    """Fill in the front page, and let links to files of the root point to their pages."""
    if name == "index":
        readme = (ROOT / "README.md").read_text("utf-8")
        others = "\n".join(other_pages(DOCS, source[0]))
        source[0] = source[0].replace(README, links_of_root(readme, "index.md"))
        source[0] = source[0].replace(OTHERS, others)
    elif "/" not in name:
        source[0] = links_of_docs(source[0])


def other_pages(docs: Path, index: str) -> Iterable[str]:
    """Return the pages beside the index that it does not name."""
    named = set(re.findall(r"^(?:.*<)?([\w-]+)>?$", index, re.MULTILINE)) | {"index"}
    return [path.stem for path in sorted(docs.glob("*.md")) if path.stem not in named]


def links_of_root(text: str, place: str) -> str:
    """Return a page of the root with links as they are from `place` on the site."""
    up = "../" * place.count("/")
    text = re.sub(r"(\]\(|src=\"|srcset=\")docs/", rf"\1{up}", text)
    for name, page in COPIED.items():
        text = text.replace(f"]({name}", f"]({up}{page}")
    text = text.replace("](README.md", f"]({up}index.md")
    text = re.sub(r"\]\(examples/(\w[\w-]*\.ipynb)\)", rf"]({up}examples/\1)", text)
    return plain_links(text)


def links_of_docs(text: str) -> str:
    """Return a page of `docs/` with links to files above it as the site has them."""
    for name, page in COPIED.items():
        text = text.replace(f"](../{name}", f"]({page}")
    text = text.replace("](../README.md", "](index.md").replace("](../examples/", "](examples/")
    return plain_links(text)


def plain_links(text: str) -> str:
    """Return a page whose links to files that are no pages are their plain words."""
    folders = r"(?:examples|recipes|benchmarks|src|tests|results)(?:/(?!\S*\.ipynb)[^)]*)?"
    target = rf"(?:\.\./)*(?:LICENSE|CITATION\.cff|{folders})"
    return re.sub(rf"\[([^\]]+)\]\({target}\)", r"\1", text)
