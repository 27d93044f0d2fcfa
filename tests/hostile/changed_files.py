"""Change files of half-finished and finished directories, go on, and compare the results.

    python -m tests.hostile.changed_files [--seed N] [--share 0.2]

Every file of every directory x flipped bit, zeros, garbage, cut short, emptied, removed, or
exchanged with another of its kind. What happened to each change:

- noticed: refused in one line, exit code 2; or by `bitproof verify`, where no result depends on it;
- healed: named, set aside and made anew, or made anew because it was gone; the results are equal;
- without effect: equal results, nothing to tell (locks, and what is written anew in any case);
- silent: other results without a word; tracebacks; hangs: these three have to be zero.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from bitproof.core.errors import BitproofError, StoppedError
from bitproof.core.progress import Silent
from bitproof.core.stop_request import StopRequest
from bitproof.data import DATA, Splits
from bitproof.faults import Ranger
from bitproof.injection import Injection, carry_out_campaign, prepare_campaign
from bitproof.quant import IntegerNetwork, load_network, quantize
from bitproof.recipe import ExplorationRecipe, explore_recipe, read_recipe, run
from bitproof.recipe.injection import report_campaign
from bitproof.recipe.toml import parse_spec
from bitproof.recipe.verification import verify
from bitproof.report import result_table, write_report
from tests.hostile.recipes import COSTS, SEARCH, TOY

SECONDS = 120
"""After which a change counts as a hang."""
OUTCOMES = ("noticed", "healed", "without effect", "silent", "traceback", "hang")


class Looks(StopRequest):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Hang(BaseException):
    """Time is over."""


@dataclass(frozen=True)
class Case:
    """A kind of directory: how it comes to be, and what is done with it afterwards."""

    name: str
    make: Callable[[Path], None]
    """Writes the directory."""
    act: Callable[[Path, Told], object]
    """Goes on with it, or reads it; returns the results."""
    heals: bool = True
    """Whether what is done with it writes; else it can only refuse."""


@dataclass
class Table:
    """What happened to how many changes."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, case: str, outcome: str, what: str) -> None:
        self.counts.setdefault(case, Counter())[outcome] += 1
        if outcome in {"silent", "traceback", "hang"}:
            self.failures.append(f"{case}: {outcome}: {what}")

    def lines(self) -> Iterator[str]:
        yield f"{'directory':34}{'tried':>7}" + "".join(f"{name:>16}" for name in OUTCOMES)
        total: Counter[str] = Counter()
        for case, found in self.counts.items():
            total += found
            yield _line(case, found)
        yield _line("all", total)


def _line(name: str, found: Counter[str]) -> str:
    return f"{name:34}{found.total():>7}" + "".join(f"{found[each]:>16}" for each in OUTCOMES)


def changes(path: Path, draw: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every change of one file, with its name."""
    content = path.read_bytes()
    size = len(content)

    def put(new: bytes) -> Callable[[], object]:
        return lambda: path.write_bytes(new)

    for _ in range(3 if size else 0):
        place = draw.randrange(size)
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        yield f"bit of byte {place} flipped", put(bytes(flipped))
    if size > 1:
        first = draw.randrange(size)
        length = draw.randint(1, min(64, size - first))
        yield f"{length} zeros from {first}", put(_replaced(content, first, bytes(length)))
        garbage = draw.randbytes(length)
        yield f"{length} random bytes from {first}", put(_replaced(content, first, garbage))
        yield "cut short", put(content[: draw.randrange(size)])
        yield "doubled", put(content + content)
    yield "emptied", put(b"")
    yield "removed", path.unlink
    others = [
        other
        for other in path.parent.glob(f"*{path.suffix}")
        if other.is_file() and other != path and other.read_bytes() != content
    ]
    if others:
        other = draw.choice(sorted(others))

        def exchange() -> None:
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)

        yield f"exchanged with {other.name}", exchange


def _replaced(content: bytes, first: int, new: bytes) -> bytes:
    return content[:first] + new + content[first + len(new) :]


def try_all(case: Case, table: Table, *, seed: int, share: float) -> None:
    """Try every change of every file of one kind of directory."""
    draw = random.Random(f"{case.name} {seed}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        original = scratch / "original"
        original.mkdir()
        case.make(original)
        expected = _undisturbed(case, original, scratch / "undisturbed")
        for file in sorted(path for path in original.rglob("*") if path.is_file()):
            relative = file.relative_to(original)
            number = len(list(changes(file, draw)))
            for turn in range(number):
                if draw.random() > share:
                    continue
                place = scratch / "changed"
                shutil.copytree(original, place)
                what, change = list(changes(place / relative, draw))[turn]
                change()
                outcome, detail = _outcome(case, place, expected)
                table.add(case.name, outcome, f"{relative}: {what}{detail}")
                shutil.rmtree(place)


def _undisturbed(case: Case, original: Path, place: Path) -> object:
    shutil.copytree(original, place)
    return case.act(place, Told())


def _outcome(case: Case, place: Path, expected: object) -> tuple[str, str]:
    told, before = Told(), _contents(place)
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    try:
        found = case.act(place, told)
    except BitproofError as error:
        one_line = "\n" not in str(error) and len(str(error)) < 700
        return ("noticed", "") if one_line else ("traceback", f": long message {error}")
    except Hang:
        return "hang", ""
    except Exception:
        return "traceback", ": " + traceback.format_exc(limit=-2).strip().replace("\n", " | ")
    finally:
        signal.alarm(0)
    if found != expected:
        return "silent", f": {told.lines}"
    if problems := _problems(place):
        return ("silent", f": not healed, {problems}") if case.heals else ("noticed", "")
    healed = any("set aside" in line or "missing" in line for line in told.lines)
    if not healed and case.heals:
        healed = any(_contents(place).get(name) != old for name, old in before.items())
    return ("healed" if healed else "without effect"), ""


def _problems(place: Path) -> list[str]:
    """Return what `bitproof verify` says."""
    try:
        return list(verify(place).problems)
    except BitproofError as error:
        return [str(error)]


def _contents(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and path.name not in {"run.json", "report.html"}
    }


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hang


def _results(place: Path) -> dict[str, bytes]:
    names = ("results.csv", "networks/baseline.safetensors", "networks/s1+s2+s3.safetensors")
    return {name: (place / name).read_bytes() for name in names}


def _run(looks: int | None) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        try:
            run(read_recipe(TOY), place, device="cpu", stop=(looks and Looks(looks)) or None)
        except StoppedError:
            assert looks

    return make


def _resume_run(place: Path, told: Told) -> object:
    run(read_recipe(TOY), place, device="cpu", resume=True, progress=told)
    return _results(place)


def _read_run(place: Path, _told: Told) -> object:
    write_report(place)
    networks = [load_network(place / "networks" / name) for name in ("baseline", "s1+s2+s3")]
    return result_table(place), [one.digest() for one in networks]


def _splits() -> Splits:
    return DATA.build({"kind": "digits", "train_size": 64, "test_size": 40}).load(None)


def _network() -> IntegerNetwork:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10)),
    )
    images = _splits().train.inputs()
    layers(images)
    return quantize(layers.eval(), images)


def _prepare(place: Path) -> None:
    injection = Injection(trials=150, images=8, protections=(Ranger(),))
    splits = _splits()
    prepare_campaign(place, _network(), injection, splits.test, train=splits.train, resume=True)


def _half_campaign(place: Path) -> None:
    _prepare(place)
    carry_out_campaign(place, shard=(1, 2))


def _whole_campaign(place: Path) -> None:
    _prepare(place)
    carry_out_campaign(place)
    report_campaign(place)


def _resume_campaign(place: Path, told: Told) -> object:
    injection = Injection(trials=150, images=8, protections=(Ranger(),))
    splits = _splits()
    prepare_campaign(
        place,
        _network(),
        injection,
        splits.test,
        train=splits.train,
        resume=True,
        progress=told,
    )
    summary = carry_out_campaign(place, progress=told)
    assert summary is not None
    report_campaign(place)
    return summary.read_bytes(), (place / "results.csv").read_bytes()


def _read_campaign(place: Path, _told: Told) -> object:
    report_campaign(place)
    return (
        (place / "report.html").read_bytes(),
        (place / "results.csv").read_bytes(),
        load_network(place / "network").digest(),
    )


def _search(place: Path, told: Told, looks: int | None = None) -> object:
    folder = place.parent
    (folder / "costs.csv").write_text(COSTS)
    explore_recipe(
        parse_spec(SEARCH, ExplorationRecipe, name="small.toml"),
        place,
        recipe_dir=folder,
        resume=True,
        progress=told,
        stop=(looks and Looks(looks)) or None,
    )
    names = ("front.csv", "networks/chosen.safetensors", "chosen.json")
    return [sorted((place / name).read_bytes().splitlines()) for name in names]


def _half_search(place: Path) -> None:
    try:
        _search(place, Told(), looks=4)
    except StoppedError:
        return
    raise AssertionError("the search was done already")


CASES = (
    Case("run, training under way", _run(3), _resume_run),
    Case("run, half measured", _run(24), _resume_run),
    Case("run, finished, gone on with", _run(None), _resume_run),
    Case("run, finished, read", _run(None), _read_run, heals=False),
    Case("campaign, half done", _half_campaign, _resume_campaign),
    Case("campaign, finished, gone on with", _whole_campaign, _resume_campaign),
    Case("campaign, finished, read", _whole_campaign, _read_campaign, heals=False),
    Case("search, half done", _half_search, _search),
)


def tried(*, seed: int = 0, share: float = 1.0, only: str = "") -> Table:
    """Return what happened to all changes, or to a share of them drawn at random."""
    torch.set_num_threads(1)
    table = Table()
    for case in CASES:
        if only in case.name:
            try_all(case, table, seed=seed, share=share)
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", default="")
    words = parser.parse_args()
    table = tried(seed=words.seed, share=words.share, only=words.only)
    for line in (*table.lines(), *table.failures):
        print(line)  # noqa: T201
    sys.exit(bool(table.failures))


if __name__ == "__main__":
    main()
