"""The walk over a graph, on numbers: order, what is let go, and its hooks."""

import pytest

from bitproof.quant.execution import affected, execute
from bitproof.quant.graph import Node

NODES = (
    Node("x", "input"),
    Node("a", "add", ("x", "x")),
    Node("b", "mul", ("x", "a")),
    Node("c", "add", ("a", "a")),
    Node("d", "add", ("b", "c")),
)


def compute(node: Node, operands: list[int]) -> int:
    if node.op == "input":
        return 3
    return sum(operands) if node.op == "add" else operands[0] * operands[1]


def test_outputs_are_let_go_after_their_last_use() -> None:
    assert execute(NODES, compute) == {"d": 30}
    assert execute(NODES[:4], compute) == {"b": 18, "c": 12}
    assert execute(NODES, compute, keep=True) == {"x": 3, "a": 6, "b": 18, "c": 12, "d": 30}


def test_what_is_written_is_what_is_read() -> None:
    def one_more(node: Node, value: int) -> int:
        return value + 1

    assert execute(NODES, compute, written=one_more)["d"] == 4 * 9 + 1 + 9 + 9 + 1 + 1


def test_every_output_is_written_once_and_in_order() -> None:
    seen: list[tuple[str, int]] = []

    def observe(node: Node, value: int) -> int:
        seen.append((node.name, value))
        return value

    values = execute(NODES, compute, written=observe)
    assert values == {"d": 30}
    assert seen == [("x", 3), ("a", 6), ("b", 18), ("c", 12), ("d", 30)]


def test_execution_starts_at_any_node() -> None:
    rest = affected(NODES, {"a"})[1:]
    assert [node.name for node in rest] == ["b", "c", "d"]
    read: list[str] = []

    def golden(name: str) -> int:
        read.append(name)
        return {"x": 100}[name]

    assert execute(rest, compute, known={"a": 6}, read=golden) == {"d": 612}
    assert read == ["x"]
    with pytest.raises(KeyError):
        execute(rest, compute, known={"a": 6})


def test_what_is_known_is_not_changed() -> None:
    known = {"a": 6, "x": 1}
    execute(NODES[2:], compute, known=known)
    assert known == {"a": 6, "x": 1}


def test_a_hook_ends_the_execution() -> None:
    done: list[str] = []

    def stop(node: Node, value: int) -> int | None:
        done.append(node.name)
        return None if node.name == "b" else value

    assert execute(NODES, compute, written=stop) == {"x": 3, "a": 6}
    assert done == ["x", "a", "b"]


def test_several_nodes_affect_what_depends_on_either() -> None:
    assert [node.name for node in affected(NODES, {"b", "c"})] == ["b", "c", "d"]
    assert affected(NODES, set()) == ()
