"""A campaign cut by kind of fault and kind of site: the grain of heat maps and bars."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from bitproof.report.campaign_summary import CampaignSummary, Row


@dataclass(frozen=True)
class Slice:
    """Everything about one kind of fault at one kind of site."""

    title: str
    site: str
    layers: tuple[Row, ...]
    bits: tuple[Row, ...]
    cells: tuple[Row, ...]
    total: Row | None
    """All trials of the group, where its faults lie at this kind of site only."""

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Layers in order of execution."""
        return tuple(dict.fromkeys(row.layer for row in [*self.layers, *self.cells]))

    @cached_property
    def bit_numbers(self) -> tuple[int, ...]:
        """Bits, the most significant first."""
        found = {row.bit for row in [*self.bits, *self.cells] if row.bit is not None}
        return tuple(sorted(found, reverse=True))

    @cached_property
    def _rows(self) -> dict[tuple[str | None, int | None], Row]:
        found = {(row.layer or None, row.bit): row for row in self.layers + self.bits + self.cells}
        return found | ({(None, None): self.total} if self.total is not None else {})

    def row(self, layer: str | None, bit: int | None) -> Row | None:
        """Return the row of a layer and a bit; None stands for all of them."""
        return self._rows.get((layer, bit))


def slices(summary: CampaignSummary) -> list[Slice]:
    """Return what was tried layer by layer or bit by bit, in the order of the groups."""
    rows = summary.layers + summary.bits + summary.cells
    pairs = list(dict.fromkeys((row.group, row.site) for row in rows if row.trials))
    order = [group.group for group in summary.groups]
    pairs.sort(key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    shared = {group for group, _ in pairs if sum(pair[0] == group for pair in pairs) > 1}
    return [
        Slice(
            title=f"{summary.label(group)} ({site} alone)"
            if group in shared
            else summary.label(group),
            site=site,
            layers=_at(summary.layers, group, site),
            bits=_at(summary.bits, group, site),
            cells=_at(summary.cells, group, site),
            total=None if group in shared else summary.total(group),
        )
        for group, site in pairs
    ]


def _at(rows: Iterable[Row], group: int, site: str) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.group == group and row.site == site)
