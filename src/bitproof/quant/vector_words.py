"""Words of 16 bits where no multiplier reads them: they cost the products nothing.

Model:  the array of an accelerator multiplies 8-bit words and accumulates them in 32 bits; sums,
        norms and softmaxes run on its vector unit, whose words may be longer. What only such
        operations read has 16 bits then: the residual stream of a transformer and its attention
        scores, rounded from the accumulator once, and the parameters of norms.
Source: Kim et al., "I-BERT: Integer-only BERT Quantization", ICML 2021, where these have 32.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.operations import MAC_OPS, MOVING_OPS, NORM_OPS, is_written

BITS = 16
HEADROOM = 2.0
"""Of an activation's range over the largest value in calibration: to clip costs more than a bit."""
READS_VECTOR_WORDS = NORM_OPS | {
    *("add", "sub", "mul", "div", "maximum", "minimum", "concat", "mean", "resample"),
    *("softmax", "log_softmax", "requantize"),
}
"""Operations that are defined on words of 16 bits: they neither multiply and accumulate, nor look
words up."""

STREAMS = NORM_OPS | MAC_OPS | {"add", "sub"}
"""Operations whose outputs may be read as words of 16 bits by some and of 8 bits by others."""


@dataclass(frozen=True)
class VectorWords:
    """Nodes with words of 16 bits, by name."""

    outputs: frozenset[str] = frozenset()
    """Those that write such words."""
    parameters: frozenset[str] = frozenset()
    """Those that store such words: norms, and constants."""


def split_streams(graph: Graph) -> Graph:
    """Return a graph where layers read 8-bit copies of streams that sums and norms read, too.

    A stream is what a sum, a norm or a layer gives, without a clamp: residuals of networks without
    a ReLU behind the sum, whose roundings would add up from block to block.
    """
    users, nodes, copies = graph.users(), list[Node](), dict[str, str]()
    for node in graph.nodes:
        inputs = node.inputs
        if not _is_vector_reader(node):
            inputs = tuple(copies.get(name, name) for name in inputs)
        nodes.append(replace(node, inputs=inputs))
        readers = [_is_vector_reader(user) for user in users[node.name]]
        if node.op in STREAMS and "clamp" not in node.attrs and len(set(readers)) == 2:
            name = f"{node.name}.words"
            while name in users:
                name += "_"
            copies[node.name] = name
            nodes.append(Node(name, "requantize", (node.name,), path=node.path))
    return replace(graph, nodes=tuple(nodes))


def _is_vector_reader(node: Node) -> bool:
    return node.op in READS_VECTOR_WORDS


def vector_words(graph: Graph) -> VectorWords:
    """Return the nodes whose words no multiplier and no table reads.

    Movements hand on the words that they read, so that what reads them counts. Images keep their 8
    bits, and so do tables of embeddings.
    """
    users = graph.users()
    suits: dict[str, bool] = {}

    def accepts(user: Node) -> bool:
        return suits[user.name] if user.op in MOVING_OPS else _is_vector_reader(user)

    for node in reversed(graph.nodes):
        suits[node.name] = all(accepts(user) for user in users[node.name])
    outputs = {n.name for n in graph.nodes if suits[n.name] and is_written(n) and n.op != "input"}
    return VectorWords(frozenset(outputs), _parameters(graph, suits))


def _parameters(graph: Graph, suits: dict[str, bool]) -> frozenset[str]:
    """Return the nodes that store vector words; all that share a memory have to agree."""
    own = {
        node.name: node.op in NORM_OPS or (node.op == "constant" and suits[node.name])
        for node in graph.nodes
    }
    kept_less_one = {key.rpartition(".")[0] for key in graph.less_one}
    broken = {n.memory or n.name for n in graph.nodes if not own[n.name]} | kept_less_one
    return frozenset(n.name for n in graph.nodes if (n.memory or n.name) not in broken)


def vector_grid(ends: tuple[float, float], device: torch.device | str) -> Grid:
    """Return the grid of activations, given their extremes in calibration."""
    return _symmetric(HEADROOM * max(abs(end) for end in ends), device)


def encode_vector(values: Float[Tensor, "*shape"], *, shrink: float = 1.0) -> CodedTensor:
    """Return parameters as words of 16 bits, on a grid whose range is multiplied by `shrink`.

    Example:
        >>> encode_vector(torch.tensor([-1.0, 0.5])).codes
        tensor([-32767,  16384], dtype=torch.int16)
    """
    grid = _symmetric(shrink * float(values.abs().amax()), values.device)
    codes = (values.detach().double() / grid.scale.double()).round().clamp(grid.low, grid.high)
    return CodedTensor(codes.to(grid.dtype), grid)


def _symmetric(peak: float, device: torch.device | str) -> Grid:
    scale = torch.tensor((peak or 1.0) / ((1 << (BITS - 1)) - 1), dtype=torch.float64).float()
    scale = scale.clamp(min=torch.finfo(torch.float32).tiny).to(device)
    return Grid(scale, torch.tensor(0, dtype=torch.int32, device=device), BITS, signed=True)
