"""What an integer network says about itself: sizes, widths, grids, products, fidelity."""

from collections import Counter
from collections.abc import Iterable

from bitproof.quant.grid import Grid
from bitproof.quant.network_data import NetworkData

LAYERS = ("layer", "operation", "words", "bits", "grids", "products", "own error, dB", "output, dB")
"""Columns of `layer_rows`."""


def network_title(network: NetworkData) -> str:
    """Return what it is, in one line."""
    shape = "unknown" if network.input_shape is None else network.input_shape
    return (
        f"IntegerNetwork: {len(_layers(network))} layers with stored words, "
        f"{len(network.nodes)} nodes, input {shape}"
    )


def network_facts(network: NetworkData) -> dict[str, str]:
    """Return name and value of each fact."""
    words = sum(coded.codes.numel() for coded in network.tensors.values())
    stored = sum(coded.codes.numel() * coded.grid.bits for coded in network.tensors.values())
    facts = {
        "words": f"{words:,} in {len(network.tensors)} tensors, {_bits(stored)}; "
        f"{_widths(coded.grid for coded in network.tensors.values())}",
        "activations": f"{_widths(network.grids.values())}; rounded to nearest"
        if network.rounding == "nearest"
        else f"{_widths(network.grids.values())}; accumulators truncated",
        "products": f"by table in {len(network.products)} nodes, exact elsewhere"
        if network.products
        else "exact",
    }
    facts["fidelity"] = "not compared" if network.fidelity is None else network.fidelity.line
    return facts


def layer_rows(network: NetworkData) -> list[list[str]]:
    """Return the cells of each layer with stored words, in order of execution."""
    errors = {} if network.fidelity is None else {x.name: x for x in network.fidelity.layers}
    rows = []
    for node, keys in _layers(network).items():
        grids = [network.tensors[key].grid for key in keys]
        error = errors.get(node)
        rows.append(
            [
                node,
                next(one.op for one in network.nodes if one.name == node),
                f"{sum(network.tensors[key].codes.numel() for key in keys):,}",
                ", ".join(str(bits) for bits in dict.fromkeys(grid.bits for grid in grids)),
                "per tensor" if grids[0].axis is None else "per channel",
                "by table" if node in network.products else "exact",
                "" if error is None else f"{error.own_sqnr_db:.1f}",
                "" if error is None else f"{error.sqnr_db:.1f}",
            ]
        )
    return rows


def _layers(network: NetworkData) -> dict[str, list[str]]:
    """Return the keys of the stored tensors of each node."""
    layers: dict[str, list[str]] = {}
    for key in network.tensors:
        layers.setdefault(key.rpartition(".")[0], []).append(key)
    return layers


def _widths(grids: Iterable[Grid]) -> str:
    """Return how many grids there are of each width and kind, the most frequent first."""
    kinds = Counter(
        f"{grid.bits} bits {'signed' if grid.signed else 'unsigned'}"
        f"{'' if grid.axis is None else ' per channel'}"
        for grid in grids
    )
    return ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common()) or "none"


def _bits(count: int) -> str:
    return f"{count / 1e6:.1f} Mbit" if count >= 10**6 else f"{count / 1e3:.1f} kbit"
