"""Rules for LSTM, GRU and RNN: unrolled over time, with one memory for the weights of all steps.

Model:  the input is multiplied for all times at once, the state step by step. An LSTM's two biases
        are one sum in memory; a GRU needs both, since its reset gate acts on the state's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref, Rule
from bitproof.quant.rules.elementwise import with_number
from bitproof.quant.rules.layers import stored

State = tuple[Ref, ...]
"""Hidden state, and the cell of an LSTM."""


@dataclass(frozen=True)
class Weights:
    """Parameters of one direction of one layer."""

    input: Tensor
    state: Tensor
    input_bias: Tensor | None
    state_bias: Tensor | None


def recurrent(kind: str) -> Rule:
    """Return the rule of a recurrent layer, `lstm`, `gru`, `rnn_tanh` or `rnn_relu`."""

    def rule(call: Call, layer: Any = None) -> Any:
        if layer is not None:
            return _layer(call, layer)
        names = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train")
        values = {name: call.get(place, name) for place, name in enumerate(names)}
        if isinstance(call.get(3, ""), list):
            raise TraceError(f"{call.path}: no rule for packed sequences")
        tensors = [stored(call, weight=one)["weight"] for one in values["params"]]
        states = values["hx"] if kind == "lstm" else [values["hx"]]
        unrolled = _Unrolled(
            call, kind, tensors, biases=values["has_biases"], layers=values["num_layers"],
            both=call.get(7, "bidirectional"), batch_first=call.get(8, "batch_first"),
        )  # fmt: skip
        return list(unrolled.run(values["input"], states))

    return rule


def _layer(call: Call, layer: nn.RNNBase) -> Any:
    """Lower a recurrent layer of torch."""
    if layer.proj_size:
        raise TraceError(f"{call.path}: no rule for a projected state")
    if len(call.x.shape) != 3:
        raise TraceError(f"{call.path}: wanted sequences (n, t, f), got {len(call.x.shape)} axes")
    kind = layer.mode.lower()
    given = call.get(1, "hx")
    states = [None, None] if given is None else list(given) if kind == "lstm" else [given]
    tensors = [getattr(layer, name) for names in layer._all_weights for name in names]
    unrolled = _Unrolled(
        call, kind, tensors, biases=layer.bias, layers=layer.num_layers,
        both=layer.bidirectional, batch_first=layer.batch_first,
    )  # fmt: skip
    output, *last = unrolled.run(call.x, states)
    return [output, last if kind == "lstm" else last[0]]


class _Unrolled:
    """A recurrent layer, step by step."""

    def __init__(
        self,
        call: Call,
        kind: str,
        tensors: Sequence[Any],
        *,
        biases: bool,
        layers: int,
        both: bool,
        batch_first: bool,
    ) -> None:
        self.call, self.kind, self.layers = call, kind, layers
        self.directions = 2 if both else 1
        self.time, self.batch = (1, 0) if batch_first else (0, 1)
        size = 4 if biases else 2
        self.weights = [
            Weights(*tensors[at : at + size], *([None] * (4 - size)))
            for at in range(0, len(tensors), size)
        ]

    def run(self, x: Ref, states: Sequence[Ref | None]) -> tuple[Ref, ...]:
        """Return the outputs of all times, and the last states of all layers."""
        last: list[State] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                number = layer * self.directions + direction
                name = f"l{layer}{'_reverse' if direction else ''}"
                first = self._first(states, number)
                steps, final = self._direction(x, self.weights[number], first, name, direction)
                outputs.append(self._stack(steps, self.time))
                last.append(final)
            x = outputs[0] if len(outputs) == 1 else self._join(outputs)
        states_by_kind = zip(*last, strict=True)
        return x, *(self._stack(list(each), 0, batch=1) for each in states_by_kind)

    def _first(self, states: Sequence[Ref | None], number: int) -> list[Ref | None]:
        """Return the states that a direction begins with; None for zeros."""
        found: list[Ref | None] = []
        for state in states:
            zero = state is None or (state.value is not None and not bool(state.value.any()))
            found.append(None if zero else self.call.select(state, 0, number))  # type: ignore[arg-type]
        return found if self.kind == "lstm" else found[:1]

    def _direction(
        self, x: Ref, own: Weights, states: list[Ref | None], name: str, backwards: int
    ) -> tuple[list[Ref], State]:
        bias, inner = own.input_bias, own.state_bias
        origin = (own.input, own.input_bias, own.state_bias)
        if self.kind != "gru" and bias is not None and inner is not None:
            bias, inner = bias + inner, None
        tensors = {"weight": own.input, "bias": bias}
        gates = self.call.at(f"weight_ih_{name}").step(
            "linear", x, shape=(*x.shape[:2], len(own.input)), tensors=tensors, origin=origin
        )
        own = replace(own, state_bias=inner)
        count = x.shape[self.time]
        outputs: list[Ref] = []
        for at in reversed(range(count)) if backwards else range(count):
            now = self.call.select(gates, self.time, at)
            states = list(self._step(now, own, states, f"_{name}"))
            outputs.append(states[0])  # type: ignore[arg-type]
        return outputs[::-1] if backwards else outputs, tuple(states)  # type: ignore[arg-type]

    def _step(self, gates: Ref, own: Weights, states: list[Ref | None], name: str) -> State:
        """Append one step of time."""
        call, memory = self.call, self.call.at(f"weight_hh{name}")
        size = own.state.shape[1]
        hidden = states[0]
        if hidden is None and self.kind == "gru":
            hidden = with_number(call, call.slice(gates, 1, 0, size), "mul", 0.0)
        inner = None
        if hidden is not None:
            tensors = {"weight": own.state, "bias": own.state_bias}
            inner = memory.step("linear", hidden, shape=gates.shape, tensors=tensors)
        if self.kind == "gru":
            assert inner is not None and hidden is not None  # noqa: PT018
            return (_gru(call, gates, inner, hidden, size),)
        total = gates if inner is None else _two(call, "add", gates, inner)
        if self.kind == "lstm":
            return _lstm(call, total, states[1], size)
        function = {"rnn_tanh": "tanh", "rnn_relu": "clamp"}[self.kind]
        parameters = {"min": 0.0} if function == "clamp" else {}
        return (call.table(total, function, **parameters),)

    def _stack(self, parts: Sequence[Ref], dim: int, *, batch: int | None = None) -> Ref:
        """Append states side by side along a new axis."""
        n, size = parts[0].shape
        batch = self.batch if batch is None else batch
        one = [0, 0, size]
        one[dim], one[batch] = 1, n
        apart = [self.call.reshape(part, one, batch=batch) for part in parts]
        shape = list(one)
        shape[dim] = len(parts)
        return self.call.step("concat", *apart, shape=shape, dim=dim)

    def _join(self, outputs: Sequence[Ref]) -> Ref:
        shape = [*outputs[0].shape[:2], sum(one.shape[2] for one in outputs)]
        return self.call.step("concat", *outputs, shape=shape, dim=2)


def _lstm(call: Call, gates: Ref, cell: Ref | None, size: int) -> State:
    i, f, g, o = (call.slice(gates, 1, at * size, (at + 1) * size) for at in range(4))
    new = _two(call, "mul", call.table(i, "sigmoid"), call.table(g, "tanh"))
    if cell is not None:
        kept = _two(call, "mul", call.table(f, "sigmoid"), cell)
        new = _two(call, "add", kept, new)
    return _two(call, "mul", call.table(o, "sigmoid"), call.table(new, "tanh")), new


def _gru(call: Call, gates: Ref, inner: Ref, hidden: Ref, size: int) -> Ref:
    def part(x: Ref, at: int) -> Ref:
        return call.slice(x, 1, at * size, (at + 1) * size)

    reset, update = (
        call.table(_two(call, "add", part(gates, at), part(inner, at)), "sigmoid") for at in (0, 1)
    )
    gated = _two(call, "mul", reset, part(inner, 2))
    new = call.table(_two(call, "add", part(gates, 2), gated), "tanh")
    # (1 - z) n + z h = n + z (h - n)
    return _two(call, "add", new, _two(call, "mul", update, _two(call, "sub", hidden, new)))


def _two(call: Call, op: str, a: Ref, b: Ref) -> Ref:
    return call.step(op, a, b, shape=a.shape)


def cell(kind: str) -> Callable[..., Any]:
    """Return the rule of one step as a layer: `LSTMCell`, `GRUCell`, `RNNCell`."""

    def rule(call: Call, layer: Any) -> Any:
        own = Weights(layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh)
        given = call.get(1, "hx")
        states = [None, None] if given is None else list(given) if kind == "lstm" else [given]
        mode = kind if kind != "rnn" else f"rnn_{layer.nonlinearity}"
        unrolled = _Unrolled(call, mode, [], biases=False, layers=1, both=False, batch_first=True)
        bias, inner = own.input_bias, own.state_bias
        origin = (own.input, own.input_bias, own.state_bias)
        if mode != "gru" and bias is not None and inner is not None:
            bias, inner = bias + inner, None
        tensors = {"weight": own.input, "bias": bias}
        shape = (call.x.shape[0], len(own.input))
        gates = call.at("weight_ih").step(
            "linear", call.x, shape=shape, tensors=tensors, origin=origin
        )
        states = [
            None if s is None or (s.value is not None and not bool(s.value.any())) else s
            for s in states
        ]
        found = unrolled._step(gates, replace(own, state_bias=inner), states, "")
        return list(found) if kind == "lstm" else found[0]

    return rule


FUNCTIONS = {name: recurrent(name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
LAYERS: dict[type[nn.Module], Rule] = {
    nn.LSTM: recurrent("lstm"),
    nn.GRU: recurrent("gru"),
    nn.RNN: recurrent("rnn"),
    nn.LSTMCell: cell("lstm"),
    nn.GRUCell: cell("gru"),
    nn.RNNCell: cell("rnn"),
}
