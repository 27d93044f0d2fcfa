"""Training that survives interruption: snapshots on disk, and when to write them.

A snapshot is one safetensors file: weights, optimizer, and whatever learns beside them; numbers
that are no tensors stand in its header as JSON. It is read without running anything.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from bitproof.core.errors import ChecksumError, ResumeError
from bitproof.core.files import remove
from bitproof.core.stop_request import StopRequest
from bitproof.core.tensor_files import DAMAGED, read_tensors, write_tensors

EVERY_S = 120.0
"""Seconds of work that an interruption may cost."""


@runtime_checkable
class Checkpointable(Protocol):
    """Something that learns beside the network, and has to outlive an interruption with it."""

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return tensors, and JSON values."""

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Take both back."""


@dataclass
class Snapshot:
    """Everything that training needs to go on."""

    step: int
    """Steps that lie behind."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """JSON values."""

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors below `name.`, without that prefix."""
        prefix = f"{name}."
        found = self.tensors.items()
        return {key.removeprefix(prefix): value for key, value in found if key.startswith(prefix)}

    def add(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors below `name.`."""
        self.tensors |= {f"{name}.{key}": value for key, value in tensors.items()}


class Checkpointer:
    """Saves snapshots of one training in one file, and knows when work has to stop."""

    def __init__(
        self, path: Path, *, stop: StopRequest | None = None, every_s: float = EVERY_S
    ) -> None:
        self.path, self.stop, self.every_s = path, stop or StopRequest(), every_s
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for another snapshot."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, snapshot: Snapshot, identity: str) -> None:
        """Write a snapshot; `identity` names the training that it belongs to."""
        header = {"identity": identity, "step": snapshot.step, "notes": snapshot.notes}
        write_tensors(self.path, snapshot.tensors, bitproof=json.dumps(header))
        self._last = time.monotonic()

    def load(self, identity: str) -> Snapshot | None:
        """Return the last snapshot, None where there is none.

        Raises:
            ResumeError: it is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            tensors, texts = read_tensors(self.path)
            header = json.loads(texts["bitproof"])
            snapshot = Snapshot(int(header["step"]), tensors, dict(header["notes"]))
            came = str(header["identity"])
        except (*DAMAGED, ChecksumError) as error:
            raise ResumeError(
                f"{self.path}: damaged, cannot go on; delete it to train from the start ({error})"
            ) from None
        if came != identity:
            raise ResumeError(
                f"{self.path}: belongs to another training; wanted {identity}, got {came}"
            )
        return snapshot

    def forget(self) -> None:
        """Delete the file; what it was for is done."""
        remove(self.path)
