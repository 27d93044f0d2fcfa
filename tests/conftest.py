"""Types and shapes checked everywhere, one torch thread, and the real data if present."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

check_shapes = jaxtyping.jaxtyped
check_types = beartype(conf=BeartypeConf(violation_type=TypeError))  # as those of shapes are


def check(*, typechecker: Any) -> Callable[[Any], Any]:
    """Check shapes where an annotation has one; elsewhere types alone, which is much faster."""

    def decorate(decorated: Any) -> Any:
        if isinstance(decorated, FunctionType):
            hints = decorated.__annotations__.values()
            if not any(isinstance(hint, str) or "jaxtyping." in repr(hint) for hint in hints):
                return check_types(decorated)
        return check_shapes(decorated, typechecker=typechecker)

    return decorate


jaxtyping.jaxtyped = check  # type: ignore[assignment]
hook = install_import_hook("bitproof", "beartype.beartype")
hook.__enter__()

import pytest  # noqa: E402
import torch  # noqa: E402

from bitproof.core.stop_request import StopRequest  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # a busy machine fails no test
settings.load_profile("untimed")
# A shell that starts tests in the background lets them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data sets, or skip."""
    folder = Path(os.environ.get("BITPROOF_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set BITPROOF_DATA)")
    return folder


class After(StopRequest):
    """Asks from the look number `looks` on."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        """Count the look."""
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def after() -> Callable[[int], StopRequest]:
    """Return the stop that asks after a number of looks."""
    return After


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch and the C library take two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
