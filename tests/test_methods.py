"""Every section and equation that the project cites stands in docs/methods.md."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CITED = r"[A-H](?:\.\d)?\b(?: \(\w+\)(?:(?:,| and| to) \(\d\))*)?"
"""A section, and perhaps equations or a word about it, such as `A.3 (4) to (7)`."""
REFERENCE = re.compile(rf"METHODS[\s\\]+({CITED}(?:(?:,| and) {CITED})*)")


def read_sections() -> dict[str, str]:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    parts = re.split(r"^##+ ([A-H](?:\.\d)?)\b", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def find_references() -> Iterator[tuple[str, str]]:
    """Yield each citation, and the file that it stands in."""
    for folder in ("src", "docs", "recipes", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".toml"} and path != Path(__file__):
                for found in REFERENCE.finditer(path.read_text(encoding="utf-8")):
                    for cited in re.findall(CITED, found[1]):
                        yield cited, str(path.relative_to(ROOT))


def equations(cited: str) -> list[int]:
    numbers = [int(number) for number in re.findall(r"\((\d)\)", cited)]
    return list(range(numbers[0], numbers[-1] + 1)) if " to " in cited else numbers


def test_every_reference_leads_somewhere() -> None:
    sections = read_sections()
    references = list(find_references())
    assert len(references) > 40
    for cited, file in references:
        section = cited.split()[0]
        assert section in sections, f"{file}: no section {section}"
        for number in equations(cited):
            assert f"- ({number}) " in sections[section], f"{file}: no ({number}) in {section}"


def test_a_reference_is_read_with_all_its_parts() -> None:
    found = REFERENCE.search("METHODS A.3 (4) to (7), E.3 and G. A new sentence.")
    assert found is not None
    assert re.findall(CITED, found[1]) == ["A.3 (4) to (7)", "E.3", "G"]
    assert equations("A.3 (4) to (7)") == [4, 5, 6, 7]
    assert equations("E.1 (2), (4) and (6)") == [2, 4, 6]
