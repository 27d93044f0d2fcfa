"""What became of a network that was checked, as plain values and in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bitproof.quant import Fidelity, IntegerNetwork
from bitproof.stats import Interval

COLUMNS = ("layer", "operation", "words", "bits", "outputs", "bits", "own error, dB", "output, dB")
"""What `Check.rows` holds."""
MOST_NAMED = 6
"""Names in a line."""


@dataclass(frozen=True)
class CheckedLayer:
    """One node of the integer network."""

    name: str
    op: str
    path: str
    """Where it came from in the user's module."""
    words: int
    """Stored weights and biases of its own."""
    bits: int | None
    """Their width, of weights where there are both; None: it has none."""
    outputs: int
    """Numbers that it gives for one input."""
    output_bits: int | None
    """Width of the words that it gives; None: real numbers."""
    own_sqnr_db: float | None
    """Signal over the error that its own words and grids make; None: it writes no words."""
    sqnr_db: float | None
    """The same with the errors of all layers before it."""


@dataclass(frozen=True)
class CheckedAccuracy:
    """Accuracy in floats and in integers on the same inputs, with 95 % intervals, as fractions."""

    images: int
    task: str
    floats: Interval
    integers: Interval


@dataclass(frozen=True, repr=False)
class Check:
    """What became of a network; printing it tells all."""

    model: str
    network: IntegerNetwork = field(repr=False)
    captured_by: Literal["fx", "export"]
    """What read its forward: torch.fx, or torch.export where that fails."""
    inputs: str
    """What it was calibrated and compared on."""
    random: bool
    """Whether that was noise."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    """Numbers in parameters of the module."""
    float_bytes: int
    """Bytes of those as they are."""
    weight_bytes: int
    """Bytes of stored weights, biases and constants, words packed."""
    products: int
    """Multiplications of layers with weights and of matrices, for one input."""
    layers: tuple[CheckedLayer, ...]
    """Nodes in order of execution."""
    folded: tuple[str, ...]
    """Operations that other nodes do as well, and modules that do nothing in evaluation mode."""
    real: tuple[str, ...]
    """What stays real numbers: the last accumulators and what follows them."""
    wide: tuple[str, ...]
    """What is kept in words of more than 8 bits, beside int32 biases."""
    fidelity: Fidelity
    tasks: tuple[str, ...]
    """Tasks whose labels fit its outputs."""
    sites: Mapping[str, int]
    """Bits that a fault may hit, by site, for one input."""
    not_attackable: str
    """Why inputs cannot be attacked; empty: they can."""
    accuracy: CheckedAccuracy | None = None

    @property
    def rows(self) -> list[list[str]]:
        """Cells of each layer: name, operation, words, bits, outputs, their bits, decibels."""
        return [
            [
                layer.name,
                layer.op,
                f"{layer.words:,}" if layer.words else "",
                "" if layer.bits is None else str(layer.bits),
                f"{layer.outputs:,}",
                "real" if layer.output_bits is None else str(layer.output_bits),
                "" if layer.own_sqnr_db is None else f"{layer.own_sqnr_db:.1f}",
                "" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
            ]
            for layer in self.layers
        ]

    @property
    def lines(self) -> list[str]:
        """Everything but the layers, in words."""
        return list(_lines(self))

    def __repr__(self) -> str:
        """Return all of it as text."""
        table = [list(COLUMNS), *self.rows]
        widths = [max(len(row[place]) for row in table) for place in range(len(COLUMNS))]
        text = ["  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) for row in table]
        return "\n".join([*self.lines, *(line.rstrip() for line in text)])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the network is not among them."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "network"}
        plain = {
            "layers": [asdict(layer) for layer in self.layers],
            "fidelity": self.fidelity.to_dict(),
            "sites": dict(self.sites),
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
        }
        return own | plain


def _lines(found: Check) -> Iterator[str]:
    size = " x ".join(map(str, found.input_shape))
    answer = " x ".join(map(str, found.output_shape)) or "1"
    read = f"read by torch.{found.captured_by}"
    yield f"{found.model}: supported; input {size}, output {answer}, {read}"
    yield (
        f"{found.parameters:,} parameters ({found.float_bytes:,} bytes) become "
        f"{found.weight_bytes:,} bytes of words; {found.products:,} products an input"
    )
    noise = (
        "; the inputs are noise, so ranges and errors are those of noise" if found.random else ""
    )
    yield (
        f"integers against floats on {found.inputs}: {100 * found.fidelity.agreement:.1f} % same "
        f"answers, {found.fidelity.sqnr_db:.1f} dB{noise}"
    )
    if found.accuracy:
        one = found.accuracy
        values = [
            f"{100 * i.value:.2f} % ({100 * i.low:.2f} to {100 * i.high:.2f})"
            for i in (one.floats, one.integers)
        ]
        both = f"float {values[0]}, integers {values[1]}"
        yield f"accuracy on {one.images:,} test inputs ({one.task}): {both}"
    worst = [f"{x.name} ({x.own_sqnr_db:.1f} dB)" for x in found.fidelity.worst[:3]]
    yield f"most error arises in {', '.join(worst)}"
    yield f"real numbers, from the last accumulators on: {_few(found.real) or 'none'}"
    if found.wide:
        yield f"in words of 16 bits: {_few(found.wide)}"
    if found.folded:
        yield f"folded: {_few(found.folded)}"
    yield f"faults may hit: {', '.join(f'{site} ({n:,} bits)' for site, n in found.sites.items())}"
    no = f"no, {found.not_attackable}" if found.not_attackable else "yes"
    yield f"inputs can be attacked: {no}"
    tasks = ", ".join(found.tasks) or "none; name a function of yours"
    yield f"tasks that fit its outputs: {tasks}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
