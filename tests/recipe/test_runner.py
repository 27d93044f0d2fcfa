import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bitproof.core.directory import read_json
from bitproof.core.errors import (
    BitproofError,
    ChecksumError,
    DataError,
    DivergenceError,
    ModelError,
    RecipeError,
    ResumeError,
    StoppedError,
    StorageError,
    TraceError,
    UnknownKindError,
    WeightsError,
)
from bitproof.core.manifest import Manifest
from bitproof.core.progress import Silent
from bitproof.core.rng import make_generator
from bitproof.core.stop_request import StopRequest
from bitproof.models import save_weights
from bitproof.quant import flip_error, load_network, redundancy
from bitproof.recipe import Recipe, RunDirectory, run
from bitproof.recipe.building import choose_device, find_weights
from bitproof.stats import read_results


class Disk:
    """Counts what reaches the disk, and stops the run at one point.

    Everything that a run keeps goes through a sync and, for whole files, a rename. Syncs of folders
    do not count: a run goes on where one fails.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.writes, self.stop_at = 0, -1
        self.error: BaseException = KeyboardInterrupt()
        self.after = False
        patch.setattr(Path, "replace", self._wrap(Path.replace))
        sync, counted = os.fsync, self._wrap(os.fsync)
        patch.setattr(
            os, "fsync", lambda file: (sync if S_ISDIR(os.fstat(file).st_mode) else counted)(file)
        )

    def _wrap(self, original: Any) -> Any:
        def write(*args: Any) -> Any:
            self.writes += 1
            if self.writes == self.stop_at and not self.after:
                raise self.error
            result = original(*args)
            if self.writes == self.stop_at:
                raise self.error
            return result

        return write


@pytest.fixture
def disk() -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch)


@pytest.fixture(scope="session")
def writes(toy: Recipe, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how often an uninterrupted run goes to the disk."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        run(toy, tmp_path_factory.mktemp("counted") / "run", device="cpu")
    return disk.writes


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def same(out: Path, finished: Path) -> bool:
    return (out / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


def test_a_run_leaves_what_the_contract_says(finished: Path, toy: Recipe) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    stages = ["s1", "s1+s2", "s1+s2+s3"]
    assert names == {
        *("recipe.toml", "run.json", "results.csv", "report.html", "tallies.jsonl"),
        "bitproof-manifest.json",
        "networks/float.safetensors",
        *(f"networks/{variant}.weights.safetensors" for variant in stages),
        *(f"networks/{variant}.safetensors" for variant in ("baseline", "s1+s2+s3")),
        *(f"networks/{variant}.json" for variant in ("baseline", "s1+s2+s3")),
        *(f"records/{variant}.json" for variant in stages),
        *(f"statistics/{variant}.json" for variant in ("baseline", "s1+s2+s3")),
    }
    rows = read_results(finished / "results.csv")
    assert list(dict.fromkeys(row.variant for row in rows)) == list(toy.variants)
    assert {row.threat for row in rows} == {"clean", "random_flips", "linf_pgd"}


def test_facts_tell_versions_device_durations_and_digest(finished: Path, toy: Recipe) -> None:
    facts = RunDirectory(finished).facts()
    assert facts["schema"] == 1
    assert facts["digest"] == toy.digest()
    assert facts["device"].startswith("cpu")
    assert facts["torch"] == torch.__version__
    assert set(facts["durations"]) == {
        "train float",
        *(f"harden {variant}" for variant in ("s1", "s1+s2", "s1+s2+s3")),
        *(f"evaluate {variant}" for variant in toy.variants),
    }
    assert facts["started"] <= facts["finished"]
    assert facts["warnings"] is not None


def test_figures_of_weights_are_those_of_the_stored_networks(finished: Path, toy: Recipe) -> None:
    images = toy.data.load().train.inputs(slice(0, 32))
    for variant in ("baseline", "s1+s2+s3"):
        network = load_network(RunDirectory(finished).network(variant))
        found = read_json(RunDirectory(finished).statistics(variant))
        again = flip_error(network, generator=make_generator(toy.seed, "flip error", variant))
        assert network.fidelity is not None
        assert found == {
            "fidelity": network.fidelity.to_dict(),
            "flips": again.to_dict(),
            "redundancy": redundancy(network, images).to_dict(),
        }


def test_a_run_from_before_there_was_a_manifest_is_not_trusted(
    finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "bitproof-manifest.json").unlink()
    with pytest.raises(ResumeError, match=r"run: has no bitproof-manifest\.json, .* --out$"):
        run(toy, out, device="cpu", resume=True)


def test_a_run_without_its_recipe_is_not_trusted(
    finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "recipe.toml").unlink()
    with pytest.raises(ResumeError, match=r"parts of a run \(b.*\) without its recipe\.toml"):
        run(toy, out, device="cpu", resume=True)


def test_a_network_that_is_finished_has_its_figures(
    toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bitproof.recipe.runner.save_network", fail)
        with pytest.raises(KeyboardInterrupt):
            run(toy, tmp_path / "run", device="cpu")
    statistics = RunDirectory(tmp_path / "run").statistics("baseline")
    before = statistics.read_bytes()
    statistics.write_text("half", encoding="utf-8")
    run(toy, tmp_path / "run", device="cpu", resume=True)
    assert statistics.read_bytes() == before


def test_equal_runs_give_equal_bytes(finished: Path, toy: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(123)
    run(toy, tmp_path / "again", device="cpu")
    assert same(tmp_path / "again", finished)
    for file in (finished / "networks").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / "networks" / file.name).read_bytes()


def test_seed_decides_the_result(finished: Path, toy: Recipe, tmp_path: Path) -> None:
    run(toy.model_copy(update={"seed": 1}), tmp_path / "other", device="cpu")
    assert not same(tmp_path / "other", finished)


@pytest.mark.parametrize(
    ("share", "after"),
    [
        (0.4, False),
        *(
            pytest.param(*place, marks=pytest.mark.slow)
            for place in [
                *((0.0, False), (0.1, True), (0.2, False), (0.3, True)),
                *((0.5, True), (0.8, True), (1.0, True)),
            ]
        ),
    ],
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(  # noqa: PLR0917
    share: float,
    after: bool,
    writes: int,
    disk: Disk,
    finished: Path,
    toy: Recipe,
    tmp_path: Path,
) -> None:
    disk.stop_at, disk.after = round(1 + share * (writes - 1)), after
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "run", device="cpu")
    run(toy, tmp_path / "run", device="cpu", resume=True)
    assert same(tmp_path / "run", finished)
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.slow
def test_a_run_that_is_halted_again_and_again_ends_as_any_other(
    finished: Path, toy: Recipe, after: Callable[[int], StopRequest], tmp_path: Path
) -> None:
    halts = 0
    while True:
        try:
            run(toy, tmp_path / "run", device="cpu", resume=True, stop=after(4))
            break
        except StoppedError:
            halts += 1
    assert halts > 3
    assert same(tmp_path / "run", finished)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_each_network_is_measured_before_the_next_is_made(
    toy: Recipe, after: Callable[[int], StopRequest], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        run(toy, tmp_path / "run", device="cpu", stop=after(8))
    measured = (tmp_path / "run" / "tallies.jsonl").read_text()
    assert '"variant":"float"' in measured
    assert not (tmp_path / "run" / "networks" / "s1+s2+s3.json").exists()


@pytest.mark.slow
def test_a_run_survives_any_number_of_interruptions(
    disk: Disk, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    for _ in range(100):
        disk.stop_at, disk.after = disk.writes + 24, not disk.after
        try:
            run(toy, tmp_path / "run", device="cpu", resume=True)
        except KeyboardInterrupt:
            continue
        break
    assert disk.writes > 30
    assert same(tmp_path / "run", finished)


@pytest.mark.parametrize(
    "share",
    [pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.5, 0.95)],
)
def test_a_full_disk_leaves_a_run_that_goes_on(  # noqa: PLR0917
    share: float, writes: int, disk: Disk, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    disk.stop_at = round(share * writes)
    disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"run/.*: cannot write \(No space left on device\)"):
        run(toy, tmp_path / "run", device="cpu")
    run(toy, tmp_path / "run", device="cpu", resume=True)
    assert same(tmp_path / "run", finished)


@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_a_torn_log_is_measured_again(
    keep: float, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    log = (out / "tallies.jsonl").read_bytes()
    (out / "tallies.jsonl").write_bytes(log[: int(keep * len(log))])
    (out / "results.csv").unlink()
    run(toy, out, device="cpu", resume=True)
    assert same(out, finished)
    assert counts_in((out / "tallies.jsonl").read_text()) == counts_in(log.decode())


def counts_in(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log, but for what counting took and the checksums that it is in."""
    lines = [json.loads(line) for line in log.splitlines()]
    return [{k: v for k, v in line.items() if k not in {"seconds", "check"}} for line in lines]


def test_a_finished_run_resumes_at_once(
    disk: Disk, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in (out / "networks").iterdir()}
    run(toy, out, device="cpu", resume=True)
    assert same(out, finished)
    assert {file: file.stat().st_mtime_ns for file in (out / "networks").iterdir()} == before


def test_a_used_directory_is_not_overwritten(finished: Path, toy: Recipe) -> None:
    with pytest.raises(ResumeError, match="holds a run already; go on with --resume, or choose"):
        run(toy, finished, device="cpu")


def test_another_recipe_is_not_resumed_and_each_field_is_named(finished: Path, toy: Recipe) -> None:
    names = ("run.json", "bitproof-manifest.json")
    before = [(finished / name).read_bytes() for name in names]
    table = toy.to_dict()
    table["evaluation"]["threats"][1] |= {"chips": 3, "levels": [0.1]}
    other = Recipe.model_validate(table | {"seed": 7})
    with pytest.raises(ResumeError) as caught:
        run(other, finished, device="cpu", resume=True)
    assert str(caught.value).partition("belongs to another recipe. ")[2].split("; ") == [
        "seed: 0 before, 7 now",
        "evaluation.threats.1.levels: [0.01] before, [0.1] now",
        "evaluation.threats.1.chips: 2 before, 3 now",
    ]
    assert [(finished / name).read_bytes() for name in names] == before


@pytest.mark.parametrize("name", ["data.train", "data.test", "torch", "bitproof", "device"])
def test_other_data_or_versions_are_not_resumed(
    name: str, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    RunDirectory(out).note(fingerprint={name: "other"})
    with pytest.raises(ResumeError, match=f"cannot go on. {name}: other before, .* now$"):
        run(toy, out, device="cpu", resume=True)


@pytest.mark.parametrize("file", ["run.json", "recipe.toml", "bitproof-manifest.json"])
@pytest.mark.parametrize("content", [b"", b'{"half": ', b"[]", b"\xff\xfe"])
def test_a_run_that_does_not_say_what_it_is_is_refused(
    file: str, content: bytes, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / file).write_bytes(content)
    with pytest.raises(ResumeError, match=rf"{file}: .* take it from a copy, or"):
        run(toy, out, device="cpu", resume=True)


@pytest.mark.parametrize(
    "file",
    [  # all files: tests/hostile
        "networks/s1+s2+s3.weights.safetensors",
        "networks/baseline.safetensors",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("records/s1.json", "networks/baseline.json", "statistics/baseline.json")
        ),
    ],
)
def test_what_changed_is_set_aside_and_made_anew(
    file: str, finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    content = bytearray((out / file).read_bytes())
    content[-2] ^= 1
    (out / file).write_bytes(content)
    told = Told()
    run(toy, out, device="cpu", resume=True, progress=told)
    (line,) = [line for line in told.lines if "set aside" in line]
    assert line.startswith(f"{out / file}: changed, set aside as aside/{Path(file).name[:2]}")
    assert same(out, finished)
    assert (out / file).read_bytes() == (finished / file).read_bytes()
    assert Manifest(out).differing() == {}
    assert Manifest(out).complete


def test_a_line_of_the_log_that_changed_is_measured_again(
    finished: Path, toy: Recipe, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    log = out / "tallies.jsonl"
    before = log.read_text()
    log.write_text(before.replace('"correct":', '"correct":1', 1))
    told = Told()
    run(toy, out, device="cpu", resume=True, progress=told)
    assert any("1 of " in line and "lines damaged, set aside" in line for line in told.lines)
    assert same(out, finished)
    found, wanted = counts_in(log.read_text()), counts_in(before)
    assert sorted(found, key=itemgetter("key")) == sorted(wanted, key=itemgetter("key"))


def test_exchanged_files_are_noticed(finished: Path, toy: Recipe, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    for suffix in (".json", ".safetensors"):
        one, other = (out / "networks" / f"{name}{suffix}" for name in ("baseline", "s1+s2+s3"))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"baseline\..*: changed since it was written"):
        load_network(out / "networks" / "baseline")
    (out / "tallies.jsonl").unlink()
    run(toy, out, device="cpu", resume=True)
    assert same(out, finished)


# What is wrong with the input is found before anything is written.


def refused(recipe: Recipe, out: Path, error: type[BitproofError], match: str, **rest: Any) -> None:
    with pytest.raises(error, match=match):
        run(recipe, out, **{"device": "cpu", **rest})
    assert not out.exists()


def changed(toy: Recipe, **fields: Any) -> Recipe:
    return Recipe.model_validate({**toy.to_dict(), **fields})


def test_an_unknown_device_is_refused(toy: Recipe, tmp_path: Path) -> None:
    refused(toy, tmp_path / "run", RecipeError, "wanted auto, cpu or cuda, got 'tpu'", device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(toy: Recipe, tmp_path: Path) -> None:
    refused(toy, tmp_path / "run", RecipeError, "this torch sees no CUDA", device="cuda")
    assert choose_device("auto") == torch.device("cpu")


def test_missing_data_is_refused(
    toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BITPROOF_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    recipe = changed(toy, data="gtsrb")
    refused(recipe, tmp_path / "run", DataError, "gtsrb: not found: no --data-dir")
    refused(recipe, tmp_path / "run", DataError, "nowhere does not exist", data_dir=Path("nowhere"))


def test_more_images_than_there_are_is_refused(toy: Recipe, tmp_path: Path) -> None:
    recipe = changed(toy, data={"kind": "digits", "test_size": 10_000})
    refused(recipe, tmp_path / "run", DataError, "wanted 10000 images, digits holds 539")


def test_a_truncated_data_file_is_refused(toy: Recipe, tmp_path: Path, data_dir: Path) -> None:
    whole = (data_dir / "mini" / "cifar10-mini.npz").read_bytes()
    (tmp_path / "data" / "mini").mkdir(parents=True)
    (tmp_path / "data" / "mini" / "cifar10-mini.npz").write_bytes(whole[: len(whole) // 2])
    recipe = changed(toy, data="cifar10", model="resnet20")
    refused(recipe, tmp_path / "run", DataError, r"cifar10-mini\.npz", data_dir=tmp_path / "data")


def test_missing_weights_are_refused(
    toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = changed(toy, weights="no.npz")
    refused(recipe, tmp_path / "run", RecipeError, "weights: no file 'no.npz'; looked for .*no.npz")
    refused(
        recipe,
        tmp_path / "run",
        RecipeError,
        f"looked for {tmp_path}/no.npz, ",
        recipe_dir=tmp_path,
    )


def test_weights_that_do_not_fit_are_refused_with_every_key(toy: Recipe, tmp_path: Path) -> None:
    save_weights(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        run(changed(toy, weights="w.safetensors"), tmp_path / "run", recipe_dir=tmp_path)
    for key in ("missing 'conv1.weight'", "missing 'linear.bias'", "unexpected '0.weight'"):
        assert key in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_other_weights_are_not_resumed(toy: Recipe, finished: Path, tmp_path: Path) -> None:
    weights = load_file(finished / "networks" / "float.safetensors")
    recipe = changed(toy, weights="w.safetensors", train="none", variants=["float"])
    shutil.copy(finished / "networks" / "float.safetensors", tmp_path / "w.safetensors")
    run(recipe, tmp_path / "run", device="cpu", recipe_dir=tmp_path)
    model = recipe.model.build(
        in_channels=1, image_size=8, n_classes=10, generator=torch.Generator()
    )
    model.load_state_dict({name: value * 2 for name, value in weights.items()})
    save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(ResumeError, match=r"cannot go on. weights: .* before, .* now"):
        run(recipe, tmp_path / "run", device="cpu", recipe_dir=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("factory", "error", "match"),
    [
        ("nowhere.at_all:make", ModelError, "no module 'nowhere'"),
        ("torch.nn:Linaer", ModelError, "no 'Linaer' in 'torch.nn'. Did you mean 'Linear'"),
        ("mine:branching", TraceError, "mine.py:8: .*x.sum"),
        ("mine:strange", TraceError, "fft"),
        ("mine:narrow", TraceError, "does not run on inputs of shape"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused(  # noqa: PLR0917
    factory: str,
    error: type[BitproofError],
    match: str,
    toy: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, how):\n"
        "        super().__init__()\n"
        "        self.how, self.linear = how, torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        x = x.flatten(1)\n"
        "        if self.how == 'branching' and x.sum() > 0: x = x * 2\n"
        "        if self.how == 'strange': x = torch.fft.fft(x).real\n"
        "        if self.how == 'narrow': x = x[:, :3]\n"
        "        return self.linear(x)\n"
        "def branching(): return Net('branching')\n"
        "def strange(): return Net('strange')\n"
        "def narrow(): return Net('narrow')\n"
    )
    monkeypatch.chdir(tmp_path)
    refused(changed(toy, model=factory), tmp_path / "run", error, match)


def test_a_file_in_the_place_of_the_directory_is_refused(toy: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="file: wanted a run directory, this is a file"):
        run(toy, tmp_path / "file", device="cpu")
    with pytest.raises(StorageError, match=r"file/run: cannot lock \(Not a directory\)"):
        run(toy, tmp_path / "file" / "run", device="cpu")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(toy: Recipe) -> None:
    with pytest.raises(StorageError, match="/proc/run: cannot lock"):
        run(toy, Path("/proc/run"), device="cpu")


def test_a_loss_that_is_no_number_ends_the_run(toy: Recipe, tmp_path: Path) -> None:
    optimization = {"epochs": 2, "batch_size": 8, "learning_rate": 1e6, "optimizer": "sgd"}
    recipe = changed(toy, model={"kind": "lenet5", "padding": 4}, train=optimization)
    with pytest.raises(
        DivergenceError, match=r"training: the loss became .* smaller learning rate"
    ):
        run(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "networks").exists()
    with pytest.raises(DivergenceError):
        run(recipe, tmp_path / "run", device="cpu", resume=True)


def test_weights_are_looked_for_in_the_data_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "there" / "w.npz").write_text("")
    found = find_weights("w.npz", tmp_path / "here", tmp_path / "there")
    assert found == tmp_path / "there" / "w.npz"
    assert find_weights("there/w.npz", None, None) == Path("there/w.npz")


def test_saved_networks_can_be_loaded_and_run(finished: Path) -> None:
    network = load_network(finished / "networks" / "s1+s2+s3")
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_an_unknown_kind_never_gets_as_far_as_a_run(toy: Recipe) -> None:
    with pytest.raises(ValueError, match="no kind 'digit'") as caught:
        changed(toy, data="digit")
    assert isinstance(caught.value.errors()[0]["ctx"]["error"], UnknownKindError)  # type: ignore[attr-defined]
