"""A number from the device, read a step later, so that nobody waits for it."""

import math

import torch
from torch import Tensor


class DeferredScalar:
    """The last scalar that was sent; reading it waits for that scalar alone.

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
