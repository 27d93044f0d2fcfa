"""Is a directory of finished work what its manifest says? For directories that came by mail."""

from dataclasses import dataclass
from pathlib import Path

from bitproof.core.directory import ResumableDirectory
from bitproof.core.errors import DataError
from bitproof.core.files import sha256_of_file
from bitproof.core.manifest import MANIFEST
from bitproof.explore.directory import ExplorationDirectory
from bitproof.injection.directory import CampaignDirectory
from bitproof.recipe.directory import RunDirectory
from bitproof.report.exploration_page import is_exploration


@dataclass(frozen=True)
class Verification:
    """What was compared with a manifest."""

    files: int
    size: int
    """Bytes of all listed files."""
    problems: tuple[str, ...]
    """One line for each file that is not what the manifest says."""
    unlisted: tuple[str, ...]
    """Files that nobody reads here: not bitproof's, or added to logs later."""
    complete: bool
    """Whether the work was done when the manifest was written."""
    sha256: str
    """Of the manifest: who sends the directory may tell it by another way."""


def verify(folder: Path) -> Verification:
    """Compare every file of a run, a campaign or a search with its manifest; write nothing.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    directory = directory_of(folder)
    manifest = directory.manifest
    if not manifest.path.is_file():
        raise DataError(
            f"{folder}: wanted the directory of a run, a campaign or a search, there is no "
            f"{MANIFEST} in it"
        )
    known, wrong, strange = manifest.entries(), manifest.differing(), directory.strange()
    problems = {**wrong, **dict.fromkeys(sorted(strange), "not listed")}
    missing = [name for name in directory.identity if name not in known and name not in strange]
    problems |= dict.fromkeys(missing, "missing, and not listed")
    return Verification(
        files=len(known),
        size=sum(versions[0].size for versions in known.values()),
        problems=tuple(f"{folder / name}: {problem}" for name, problem in problems.items()),
        unlisted=tuple(name for name in manifest.unlisted() if name not in strange),
        complete=manifest.complete,
        sha256=sha256_of_file(manifest.path),
    )


def directory_of(folder: Path) -> ResumableDirectory:
    """Return a directory as what it is: a search, a campaign, or else a run."""
    if is_exploration(folder):
        return ExplorationDirectory(folder)
    campaign = CampaignDirectory(folder)
    return campaign if campaign.plan.is_file() else RunDirectory(folder)
