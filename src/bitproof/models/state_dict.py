"""The weights in what a training left behind: which of its dicts, and under which prefix.

Model:  a file holds one dict of named tensors, or dicts that hold such dicts (`state_dict`,
        `model`, `net`, ...). One whose names are the model's is taken, after what all names begin
        with has been dropped, part by part (`module.`, `model.`, `_orig_mod.`, `backbone.`, and
        `module.model.`), or, where none is, one whose names are so under one of several prefixes.
        Where several fit the model, nothing tells which is meant (EMA beside the last weights):
        they are named, and one has to be chosen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import first_of, shorten

USUAL = ("state_dict", "model_state_dict", "model", "net")
"""Names that weights lie under; of several dicts, none of which fits, the first is told about."""
COMPILED = "_orig_mod."
"""What `torch.compile` puts into names, wherever it wraps something."""
MOST_DICTS, DEEPEST = 1000, 4
"""Dicts that are looked at, and how deep they lie."""
MOST_PARTS = 6
"""Parts of names that are dropped one after the other."""


@dataclass(frozen=True)
class Named:
    """Named tensors out of a file, and how they were come by."""

    tensors: Mapping[str, Tensor]
    place: str = ""
    """Names of the dicts that they lay in, joined by dots."""
    prefix: str = ""
    """What their names began with."""
    added: str = ""
    """What they begin with in the model: of one layer in it, beside a normalisation."""
    others: tuple[str, ...] = field(default=())
    """Names beside them that are no part of the model."""
    n_others: int = 0
    """How many numbers lie under those."""

    @property
    def choice(self) -> str:
        """What chooses them: `place`, and the prefix, if others lie beside it."""
        return ".".join(filter(None, (self.place, self.prefix[:-1] if self.others else "")))

    @property
    def parts(self) -> list[str]:
        """What was done to find them, in words."""
        said = [f"took {shorten(self.place)}"] if self.place else []
        said += [f"dropped prefix {shorten(self.prefix)}"] if self.prefix else []
        said += [f"put under {shorten(self.added)}"] if self.added else []
        if self.others:
            names = first_of([shorten(name) for name in self.others[:3]])
            more = ", ..." if len(self.others) > 3 else ""
            said.append(f"left out {len(self.others)} ({names}{more})")
        return said


def is_weight(key: Any, value: Any) -> bool:
    """Return whether this is a name and a plain tensor on the CPU."""
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and not value.is_quantized
    )


def dicts_of(content: Any) -> dict[str, Mapping[str, Tensor]]:
    """Return the dicts that hold nothing but named tensors, by their place; the nearest first.

    Example:
        >>> list(dicts_of({"epoch": 3, "state_dict": {"weight": torch.zeros(1)}}))
        ['state_dict']
    """
    found: dict[str, Mapping[str, Tensor]] = {}
    seen: set[int] = set()
    coming = [("", content)]
    for depth in range(DEEPEST + 1):
        level, coming = coming, []
        for place, value in level:
            if not isinstance(value, Mapping) or id(value) in seen or len(seen) >= MOST_DICTS:
                continue
            seen.add(id(value))
            if value and all(is_weight(*item) for item in value.items()):
                found[place] = value
            elif depth < DEEPEST:
                coming += [
                    (f"{place}.{key}".lstrip("."), inside)
                    for key, inside in value.items()
                    if isinstance(key, str) and isinstance(inside, Mapping)
                ]
    return found


def fitting(
    found: Mapping[str, Mapping[str, Tensor]],
    wanted: Mapping[str, Tensor],
    optional: frozenset[str],
) -> list[Named]:
    """Return what of `found` has the names of `wanted`, of which `optional` ones may be absent.

    Where some have the shapes as well, only those.

    Example:
        >>> one = {"model.weight": torch.zeros(1)}
        >>> fitting({"state_dict": one}, {"weight": torch.zeros(1)}, frozenset())[0].parts
        ["took 'state_dict'", "dropped prefix 'model.'"]
    """
    fits: list[Named] = []
    for place, tensors in found.items():
        whole = [one for one in _shorter(tensors, place) if _same_names(one, wanted, optional)]
        if not whole and (start := _common_part(wanted.keys() - optional)):
            longer = (_under(start, one) for one in _shorter(tensors, place))
            whole = [one for one in longer if _same_names(one, wanted, optional)]
        fits += whole[:1] or _parts(tensors, place, wanted, optional)
    shaped = [one for one in fits if _same_shapes(one, wanted)]
    return shaped or fits


def likeliest(found: Mapping[str, Mapping[str, Tensor]], wanted: Mapping[str, Tensor]) -> Named:
    """Return what to tell about, where nothing fits."""
    usual = [place for place in found if place.rpartition(".")[2] in USUAL]
    place = min(usual, key=lambda one: USUAL.index(one.rpartition(".")[2]), default="")
    if place not in found:
        place = max(found, key=lambda one: len(found[one].keys() & wanted.keys()))
    chain = list(_shorter(found[place], place))
    return max(chain, key=lambda one: len(one.tensors.keys() & wanted.keys()))


def _shorter(tensors: Mapping[str, Tensor], place: str) -> Iterator[Named]:
    """Yield tensors as they are, and without what all names begin with, part by part."""
    prefix = ""
    for _ in range(MOST_PARTS):
        yield Named(tensors, place, prefix)
        plain = {name.replace(COMPILED, ""): value for name, value in tensors.items()}
        if plain.keys() != tensors.keys() and len(plain) == len(tensors):
            yield Named(plain, place, f"{prefix}{COMPILED}")
        first, dot, _ = next(iter(tensors)).partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in tensors):
            return
        prefix += f"{first}."
        tensors = {name.removeprefix(f"{first}."): value for name, value in tensors.items()}


def _common_part(names: Iterable[str]) -> str:
    """Return the first part of all names, where they have one in common."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 and "" not in firsts else ""


def _under(start: str, one: Named) -> Named:
    tensors = {f"{start}{name}": value for name, value in one.tensors.items()}
    return replace(one, tensors=tensors, added=start)


def _parts(
    tensors: Mapping[str, Tensor],
    place: str,
    wanted: Mapping[str, Tensor],
    optional: frozenset[str],
) -> Iterator[Named]:
    """Yield what fits under one of several first parts of names, where others lie beside it."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(f"{first}.", {})[rest] = value
    for start, inside in groups.items():
        for one in _shorter(inside, place):
            if _same_names(one, wanted, optional):
                others = tuple(name for name in tensors if not name.startswith(start))
                count = sum(tensors[name].numel() for name in others)
                yield replace(one, prefix=f"{start}{one.prefix}", others=others, n_others=count)


def _same_names(one: Named, wanted: Mapping[str, Tensor], optional: frozenset[str]) -> bool:
    return one.tensors.keys() <= wanted.keys() <= one.tensors.keys() | optional


def _same_shapes(one: Named, wanted: Mapping[str, Tensor]) -> bool:
    return all(value.shape == wanted[name].shape for name, value in one.tensors.items())
