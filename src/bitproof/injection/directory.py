"""The campaign directory: what lies where, and whether a campaign may go on.

plan.json                   spec, fingerprint and chunks; written once, before anything runs
faults.parquet              the fault table, where one is stored
network.safetensors, .json  the network
parts/                      results of chunks
summary.json, results.csv, report.html
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.core.differences import differences
from bitproof.core.errors import DataError, ResumeError, StorageError
from bitproof.core.files import sweep, write_bytes
from bitproof.core.lock import hold
from bitproof.core.spec import canonical_json

LAYOUT = 1
"""Version of the layout."""


@dataclass(frozen=True)
class CampaignDirectory:
    """One campaign on disk."""

    path: Path

    @property
    def plan(self) -> Path:
        """What is to be done."""
        return self.path / "plan.json"

    @property
    def faults(self) -> Path:
        """The fault table."""
        return self.path / "faults.parquet"

    @property
    def network(self) -> Path:
        """The network, without suffix."""
        return self.path / "network"

    @property
    def parts(self) -> Path:
        """The folder of chunks' results."""
        return self.path / "parts"

    @property
    def summary(self) -> Path:
        """Rates and intervals."""
        return self.path / "summary.json"

    @property
    def results(self) -> Path:
        """The tidy table."""
        return self.path / "results.csv"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def begin(self, plan: dict[str, Any], *, resume: bool = False) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        Args:
            plan: JSON values; its table `fingerprint` says what the results depend on. The keys
                `layout` and `sha256` are added in the file.
            resume: whether a campaign that lies here may go on. Without one, it begins: so all
                shards of a campaign pass True.

        Raises:
            ResumeError: a campaign lies here and `resume` was not asked for, or its fingerprint
                differs; each difference is named.
            DataError: its plan is damaged.
            StorageError: the place cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path}: wanted a campaign directory, this is a file")
        content = json.loads(json.dumps(plan, allow_nan=False))
        fingerprint = content["fingerprint"]
        with hold(self.path / ".begin"):  # of several shards that start at once, one writes
            sweep(self.path)
            if not self.plan.exists():
                sealed = {"layout": LAYOUT, **content, "sha256": _digest(content)}
                write_bytes(self.plan, (json.dumps(sealed, indent=1) + "\n").encode())
                return
        if not resume:
            raise ResumeError(
                f"{self.path}: holds a campaign already; go on with --resume, "
                "or choose another --out"
            )
        lines = differences(self.read_plan()["fingerprint"], fingerprint)
        if lines:
            raise ResumeError(f"{self.path}: belongs to another campaign. " + "; ".join(lines))

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that `begin` wrote.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            content = json.loads(self.plan.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise DataError(f"{self.plan}: damaged, wanted a JSON object")
            layout, digest = content.pop("layout", None), content.pop("sha256", None)
            sound = digest == _digest(content) and isinstance(content.get("fingerprint"), dict)
        except FileNotFoundError:
            raise DataError(f"{self.path}: holds no campaign (no plan.json)") from None
        except OSError as error:
            raise DataError(f"{self.plan}: cannot read ({error.strerror or error})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.plan}: damaged ({error})") from None
        if not sound:
            raise DataError(f"{self.plan}: damaged or edited (its sha256 does not match)")
        if layout != LAYOUT:
            raise DataError(f"{self.plan}: layout {layout}, wanted {LAYOUT}")
        return content

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the summary, in place of an earlier one.

        Raises:
            StorageError: the place cannot be written.
        """
        text = json.dumps(summary, indent=1, allow_nan=False)
        write_bytes(self.summary, (text + "\n").encode())


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
