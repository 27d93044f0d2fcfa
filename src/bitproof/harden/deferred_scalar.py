"""Numbers of one step of training that the next one asks for, without making a device wait."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class DeferredScalar:
    """The last scalar that the device sent; reading it waits for that scalar alone.

    Example:
        >>> echo = DeferredScalar()
        >>> echo.value
        inf
        >>> echo.send(torch.tensor(0.5))
        >>> echo.value
        0.5
    """

    def __init__(self) -> None:
        self._sent: Tensor | None = None
        self._arrival: torch.cuda.Event | None = None

    def send(self, value: Tensor) -> None:
        """Take `value` on its way to the host, behind the work that makes it."""
        if value.device.type != "cuda":
            self._sent, self._arrival = value, None
            return
        self._sent = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        self._sent.copy_(value, non_blocking=True)
        self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrival.record(torch.cuda.current_stream(value.device))

    @property
    def value(self) -> float:
        """The number; infinite before any was sent."""
        if self._sent is None:
            return math.inf
        if self._arrival is not None:
            self._arrival.synchronize()
        return float(self._sent)


class LossMemory:
    """The clean and the faulty loss of the last step; it is saved and restored with the training.

    Example:
        >>> losses = LossMemory()
        >>> losses["faulty"].value
        inf
    """

    def __init__(self) -> None:
        self._scalars = {"clean": DeferredScalar(), "faulty": DeferredScalar()}
        self.steps = 0
        """Steps that lie behind, as its user counts them."""

    def __getitem__(self, name: str) -> DeferredScalar:
        return self._scalars[name]

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return both, None for what was never sent, and the number of steps."""
        known = {name: scalar.value for name, scalar in self._scalars.items()}
        finite = {name: None if math.isinf(value) else value for name, value in known.items()}
        return {}, {"losses": finite, "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:  # noqa: ARG002
        """Take them back."""
        self.steps = notes["steps"]
        for name, value in notes["losses"].items():
            if value is not None:
                self._scalars[name].send(torch.tensor(value, dtype=torch.float64))
