import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from bitproof.cli.console import Bars, Cells, Lines, watcher
from bitproof.core.progress import Progress


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def printed(watch: Bars | Lines) -> str:
    file = watch.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("watch", [Bars(console(terminal=True)), Lines(console(terminal=False))])
def test_items_pass_through(watch: Bars | Lines) -> None:
    assert isinstance(watch, Progress)
    assert list(watch.track(range(5), label="work", total=5)) == list(range(5))
    assert "work: 5" in printed(watch)


def test_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))  # each look at the clock is 4 s later
    monkeypatch.setattr("bitproof.cli.console.time.perf_counter", lambda: float(next(clock)))
    watch = Lines(console(terminal=False))
    list(watch.track(range(6), label="work", total=6))
    assert printed(watch).splitlines() == [
        "work: 3/6, 0.2/s, 12 s left",
        "work: 6/6, 0.2/s, 0 s left",
        "work: 6/6 in 28.0 s",
    ]


@pytest.mark.parametrize("watch", [Bars(console(terminal=True)), Lines(console(terminal=False))])
def test_an_error_passes_through(watch: Bars | Lines) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(watch.track(items(), label="work", total=2))


def test_words_are_printed_as_they_are() -> None:
    watch = Lines(console(terminal=False))
    watch.say("[bold]s1[/bold] " + "x" * 200)
    assert printed(watch) == "[bold]s1[/bold] " + "x" * 200 + "\n"


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(watcher(), Lines)


def test_notebooks_show_one_bar_that_leaves_one_line() -> None:
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:  # noqa: ARG002
            shown.append(data)

    def display(data: dict[str, str], *, raw: bool, display_id: bool = False) -> Handle:
        shown.append(data)
        return Handle()

    watch = Cells(display)
    assert list(watch.track("abc", label="<b>", total=3)) == ["a", "b", "c"]
    watch.say("done")
    assert 'max="3"' in shown[0]["text/html"]
    assert "&lt;b&gt;: 0/3" in shown[0]["text/html"]
    assert shown[-2]["text/plain"].startswith("<b>: 3/3 in ")
    assert "text/html" not in shown[-2]
    assert shown[-1] == {"text/plain": "done"}
