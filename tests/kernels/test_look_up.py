"""Look-ups of products: the compiled ones equal those of torch, with everything that is added."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.kernels import look_up as module
from bitproof.kernels.forms import planes_of
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Requantization
from bitproof.kernels.library import LEVELS, find_library, library
from bitproof.kernels.look_up import LookUp

KINDS = ("products", "bytes", "errors", "far")


def draw_bytes(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def exact(*, signed: bool) -> Tensor:
    patterns = torch.arange(256)
    values = patterns - 256 * (patterns > 127) if signed else patterns
    return values.outer(values)


def draw_table(kind: str, *, signed: bool, seed: int = 0) -> Tensor:
    """Return a table of two planes, of one, of one beside exact products, or of none."""
    generator = torch.Generator().manual_seed(seed)
    low, high = {
        "products": (-(2**15), 2**15),
        "bytes": (-100, 156),
        "errors": (0, 256),
        "far": (-(2**30), 2**30),
    }[kind]
    entries = torch.randint(low, high, (256, 256), generator=generator)
    return (entries + exact(signed=signed) if kind == "errors" else entries).int()


@dataclass(frozen=True)
class Case:
    words: Tensor
    weight: Tensor
    tables: Tensor
    choice: Tensor
    start: Tensor
    points: Tensor
    geometry: Geometry
    signed: bool

    def look_up(self, *, errors: bool) -> LookUp:
        found = LookUp.of(
            self.weight,
            self.tables,
            self.choice,
            geometry=self.geometry,
            signed=self.signed,
            errors=errors,
        )
        return found.adding(self.start, self.points)

    def by_loops(self, *, errors: bool) -> Tensor:
        """Return the sums of products, or of errors, filter by filter."""
        tables = self.tables.long() - (exact(signed=self.signed) if errors else 0)
        move, (filters, depth, rows, columns) = self.geometry, self.weight.shape
        values = self.words.view(torch.int8).long() if self.signed else self.words.long()
        pairs = zip(self.words.shape[2:], (rows, columns), move.dilation, move.stride, strict=True)
        high, wide = ((s - d * (k - 1) - 1) // hop + 1 for s, k, d, hop in pairs)
        sums = torch.zeros(len(self.words), filters, high, wide, dtype=torch.int64)
        for m, c, i, j in np.ndindex(filters, depth, rows, columns):
            top, left = i * move.dilation[0], j * move.dilation[1]
            seen = (
                slice(None),
                m // (filters // move.groups) * depth + c,
                slice(top, top + (high - 1) * move.stride[0] + 1, move.stride[0]),
                slice(left, left + (wide - 1) * move.stride[1] + 1, move.stride[1]),
            )
            column = tables[self.choice[m], :, int(self.weight[m, c, i, j])]
            sums[:, m] += column[self.words[seen].long()] - self.points[m] * values[seen]
        total = sums + self.start.reshape(-1, 1, 1)
        return ((total + 2**31) % 2**32 - 2**31).int()


def draw_case(kinds: list[str], seed: int, *, signed: bool) -> Case:
    random = np.random.default_rng([seed, len(kinds)])
    groups, depth = int(random.integers(1, 4)), int(random.integers(1, 4))
    filters = groups * int(random.integers(1, 4))
    kernel = [int(k) for k in random.integers(1, 4, 2)]
    hop, step = ((int(a), int(b)) for a, b in random.integers(1, 3, (2, 2)))
    sizes = [d * (k - 1) + 1 + int(random.integers(6)) for d, k in zip(step, kernel, strict=True)]
    return Case(
        words=draw_bytes(2, groups * depth, *sizes, seed=seed),
        weight=draw_bytes(filters, depth, *kernel, seed=seed + 1),
        tables=torch.stack([draw_table(kind, signed=signed, seed=seed) for kind in kinds]),
        choice=torch.from_numpy(random.integers(0, len(kinds), filters)),
        start=torch.from_numpy(random.integers(-(2**33), 2**33, filters)),
        points=torch.from_numpy(random.integers(-300, 300, filters)).int(),
        geometry=Geometry(hop, (0, 0), step, groups),
        signed=signed,
    )


def check(case: Case, monkeypatch: pytest.MonkeyPatch, *, errors: bool = False) -> LookUp:
    """Compare the compiled look-up and that of torch with loops; return the first."""
    found = case.look_up(errors=errors)
    wanted = case.by_loops(errors=found.plus_exact)
    assert torch.equal(found.sums(case.words), wanted)
    last = case.words.contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.sums(last), wanted)
    with monkeypatch.context() as patch:
        patch.setattr(module, "library", lambda: None)
        plain = case.look_up(errors=errors)
        assert plain.plus_exact == found.plus_exact
        assert plain.planes is None
        assert torch.equal(plain.sums(case.words), wanted)
        # What was prepared with a library works without one.
        assert torch.equal(found.sums(case.words), wanted)
    return found


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_one_table_equal_those_of_loops(
    kind: str, seed: int, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = draw_case([kind], seed, signed=signed)
    assert not check(case, monkeypatch).plus_exact
    errors = check(case, monkeypatch, errors=True)
    assert errors.plus_exact == (kind == "errors")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("number", [2, 3, 8])
def test_sums_of_several_tables_equal_those_of_loops(
    number: int, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["products", "bytes", "errors"] * 3
    check(draw_case(kinds[:number], number, signed=signed), monkeypatch)
    far = check(draw_case([*kinds[: number - 1], "far"], number, signed=signed), monkeypatch)
    assert far.planes is None


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_instructions_gives_the_same(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = find_library(level)[0]
    if chosen is None:
        pytest.skip(f"this processor has no {level}")
    monkeypatch.setattr(module, "library", lambda: chosen)
    for seed, kind in enumerate(KINDS):
        check(draw_case([kind], seed, signed=seed % 2 == 0), monkeypatch, errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_requantized_sums(kind: str) -> None:
    case = draw_case([kind], 3, signed=True)
    found, how = case.look_up(errors=False), Requantization(torch.tensor([2.0**-24]), 100, 3, 250)
    assert found.is_compiled == (library() is not None and kind != "far")
    if not found.is_compiled:
        return
    words = found.words(case.words, how)
    values = (case.by_loops(errors=False).float() * 2.0**-24).round() + 100
    assert torch.equal(words, values.clamp(3, 250).to(torch.uint8))


def test_what_is_added_replaces_what_was_added_before() -> None:
    case = draw_case(["products"], 1, signed=False)
    found = case.look_up(errors=False).adding(torch.full((len(case.weight),), 5))
    other = found.adding(case.start, case.points)
    assert torch.equal(other.sums(case.words), case.by_loops(errors=False))
    alone = found.adding(torch.zeros(len(case.weight)).long(), torch.zeros_like(case.points))
    assert alone.weight_points is None
    assert torch.equal(alone.sums(case.words), found.sums(case.words) - 5)


@pytest.mark.parametrize("top", [0, 255, 65535, 65536])
def test_two_planes_hold_columns_that_span_two_bytes(top: int) -> None:
    table = torch.zeros(256, 256, dtype=torch.int32)
    table[3, 7], table[:, 9] = top, -(2**31)
    planes = planes_of(table, signed=False, fewest=2)
    if top > 65535:
        assert planes is None
        return
    assert planes is not None
    assert torch.equal(planes.table(signed=False), table)
    assert planes.stacked.shape == (256, 2, 256)


@pytest.mark.parametrize("errors", [False, True])
def test_entries_at_both_ends_of_int32_are_looked_up(
    errors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = draw_case(["products"], 2, signed=False)
    case.tables[0, ::2], case.tables[0, 1::2] = -(2**31), 2**31 - 1
    check(case, monkeypatch, errors=errors)


def test_nothing_that_is_given_is_changed() -> None:
    case = draw_case(["errors"], 4, signed=True)
    given = (case.words, case.weight, case.tables, case.choice, case.start, case.points)
    before = [tensor.clone() for tensor in given]
    case.look_up(errors=True).sums(case.words)
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))
