"""Generators that depend on what a draw is for, never on who draws it or when."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")


def derive_seed(seed: int, *parts: object) -> int:
    """Return a 63-bit seed for the draw that `parts` name (a digest, a trial, a block ...).

    Example:
        >>> derive_seed(0, "chip", 3) == derive_seed(0, "chip", 3) != derive_seed(0, "chip", 4)
        True
    """
    text = "\x1f".join([str(seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def make_generator(seed: int, *parts: object) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed`.

    Example:
        >>> a, b = make_generator(0, "chip", 1), make_generator(0, "chip", 1)
        >>> bool(torch.rand((), generator=a) == torch.rand((), generator=b))
        True
    """
    return torch.Generator().manual_seed(derive_seed(seed, *parts))


def draw_seed(generator: torch.Generator) -> int:
    """Return a fresh 62-bit seed, advancing `generator` by one draw."""
    return int(torch.randint(2**62, (), generator=generator))


@contextmanager
def global_draws(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed the generators that layers draw weights and dropout from; restore them on leaving.

    Other devices than `device` and the CPU are left alone; `torch.manual_seed` would seed all.

    Example:
        >>> with global_draws(0):
        ...     first = torch.rand(())
        >>> with global_draws(0):
        ...     bool(torch.rand(()) == first)
        True
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_layers(seed, device)
        yield


def seed_layers(seed: int, device: torch.device = CPU) -> None:
    """Seed the generators that layers draw from, on the CPU and on `device`; see `global_draws`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
