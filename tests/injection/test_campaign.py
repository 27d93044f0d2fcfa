import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import FaultListError, ResumeError, SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import Executor, InProcess, Pool, Processes, Ray, Work
from bitproof.faults import FaultTable, Ranger, Secded
from bitproof.injection import FaultGroup, Injection, carry_out_campaign, prepare_campaign
from bitproof.injection.campaign import checksum
from bitproof.injection.engine import COUNTS
from bitproof.injection.sealed import read_fault_table
from bitproof.injection.worker import Worker
from bitproof.quant import IntegerNetwork, quantize
from bitproof.stats import FixedLooks

TRIALS = Injection(trials=150, images=12)


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = make_generator(0, "images")
    labels = torch.arange(60) % 4
    patterns = torch.rand(4, 1, 6, 6, generator=generator)
    noise = 0.2 * torch.randn(60, 1, 6, 6, generator=generator)
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 4)


@pytest.fixture(scope="module")
def network(data: Dataset) -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 4),
        )
    return quantize(model, data.inputs())


def run(
    folder: Path,
    network: IntegerNetwork,
    data: Dataset,
    injection: Injection = TRIALS,
    executor: Executor | None = None,
    **more: Any,
) -> dict[str, Any]:
    prepare_campaign(folder, network, injection, data, train=data, **more)
    summary = carry_out_campaign(folder, executor=executor)
    assert summary is not None
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


def sum_of(folder: Path) -> str:
    found: str = json.loads((folder / "summary.json").read_text())["campaign"]["checksum"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, network: IntegerNetwork, data: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "campaign"
    run(folder, network, data)
    return folder


def test_every_trial_is_counted_once_and_every_image_has_an_outcome(whole: Path) -> None:
    worker = Worker(whole)
    tables = [worker.run(chunk) for chunk in range(len(worker.chunks))]
    trials = np.concatenate([table["trial"] for table in tables])
    assert sorted(trials.tolist()) == list(range(150))
    for table in tables:
        assert (table["images"] == 12).all()
        assert (table["masked"] + table["due"] <= 12).all()
        assert (table["sdc20"] <= table["sdc10"]).all()
        assert (table["sdc5"] <= table["sdc1"]).all()


def test_the_summary_gives_totals_layers_bits_and_cells(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    total = summary["totals"][0]
    assert total["trials"] == sum(row["trials"] for row in summary["layers"]) == 150
    assert total["population"] == sum(row["population"] for row in summary["cells"])
    assert {row["layer"] for row in summary["layers"]} == {"0", "2", "5"}
    assert [row["bit"] for row in summary["bits"]] == list(range(8))
    low, value, high = total["rates"]["masked"]
    assert 0 <= low < value < high <= 1
    assert summary["convergence"][0]["trials"][-1] == 150


@pytest.mark.parametrize(
    "executor",
    [
        Processes(workers=2),
        pytest.param(Processes(workers=3), marks=pytest.mark.slow),
        pytest.param(Ray(workers=2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_whoever_computes_the_counts_are_the_same(
    executor: Executor, whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    if isinstance(executor, Ray):
        pytest.importorskip("ray")
    run(tmp_path / "c", network, data, executor=executor)
    assert (tmp_path / "c" / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    for part in sorted((whole / "parts").glob("part-*")):
        assert part.read_bytes() == (tmp_path / "c" / "parts" / part.name).read_bytes()


def test_shares_come_together_with_the_last_one(
    whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    found = []
    for share in (2, 1, 3):
        prepare_campaign(folder, network, TRIALS, data, train=data, resume=True)
        found.append(carry_out_campaign(folder, shard=(share, 3)))
    assert found[:2] == [None, None]
    assert sum_of(folder) == sum_of(whole)


def test_a_damaged_part_is_set_aside_and_done_again(
    whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    run(folder, network, data)
    part = folder / "parts" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    (folder / "summary.json").unlink()
    run(folder, network, data, resume=True)
    assert sum_of(folder) == sum_of(whole)
    assert list((folder / "parts" / "aside").iterdir())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Injection(trials=150, images=12, seed=1), "injection.seed: 0 before, 1 now"),
        (Injection(trials=151, images=12), "injection.trials: 150 before, 151 now"),
    ],
)
def test_another_campaign_is_refused_with_what_differs(
    change: Injection, told: str, whole: Path, network: IntegerNetwork, data: Dataset
) -> None:
    with pytest.raises(ResumeError, match=told):
        prepare_campaign(whole, network, change, data, resume=True)


def test_another_network_is_refused(whole: Path, network: IntegerNetwork, data: Dataset) -> None:
    codes = network.tensors["0.weight"].codes
    other = network.with_codes({"0.weight": codes ^ 1})
    with pytest.raises(ResumeError, match="network: "):
        prepare_campaign(whole, other, TRIALS, data, resume=True)


def test_a_campaign_is_not_begun_twice(whole: Path, network: IntegerNetwork, data: Dataset) -> None:
    with pytest.raises(ResumeError, match="--resume"):
        prepare_campaign(whole, network, TRIALS, data)


def test_a_replayed_list_gives_what_the_draw_gave(
    whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    faults = read_fault_table(whole / "faults.parquet")
    summary = run(tmp_path / "c", network, data, faults=faults)
    drawn = json.loads((whole / "summary.json").read_text())
    for outcome, (_, value, _) in summary["totals"][0]["rates"].items():
        columns = _columns(whole)
        assert value == pytest.approx((columns[outcome] / columns["images"]).mean())
    assert drawn["campaign"]["trials"] == summary["campaign"]["trials"]


def _columns(folder: Path) -> dict[str, np.ndarray]:
    worker = Worker(folder)
    tables = [worker.run(chunk) for chunk in range(len(worker.chunks))]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def test_an_impossible_list_is_refused(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    layers = [node.name for node in network.nodes]
    faults = FaultTable.from_rows([(0, "weight", "0", 36, -1, 0, "flip")], layers=layers)
    with pytest.raises(FaultListError, match="wanted element from 0 to 35, got 36"):
        prepare_campaign(tmp_path / "c", network, TRIALS, data, faults=faults)


def test_a_stop_rule_ends_the_campaign_at_a_permitted_look(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    stop = FixedLooks(margin=0.2, fractions=(0.5, 1.0))
    summary = run(
        tmp_path / "c", network, data, Injection(trials=400, images=8, stop=stop, stop_on="sdc20")
    )
    assert summary["campaign"]["stopped"]
    assert summary["campaign"]["trials"] == 200
    low, value, high = summary["campaign"]["stop"]["interval"]
    assert low <= value <= high
    assert (high - low) / 2 < 0.2


@pytest.mark.slow
def test_a_stop_rule_ends_a_campaign_of_several_processes_at_the_same_look(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    stop = FixedLooks(margin=0.2, fractions=(0.5, 1.0))
    injection = Injection(trials=400, images=8, stop=stop, stop_on="sdc20")
    alone, together = (
        run(tmp_path / executor.kind, network, data, injection, executor=executor)
        for executor in (InProcess(), Processes(workers=2))
    )
    assert alone["campaign"]["stopped"]
    assert together == alone


def test_a_stop_rule_cannot_see_other_shares(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    injection = Injection(trials=100, images=8, stop=FixedLooks(margin=0.2))
    prepare_campaign(tmp_path / "c", network, injection, data)
    with pytest.raises(SpecError, match="whole run"):
        carry_out_campaign(tmp_path / "c", shard=(1, 2))


def test_secded_masks_every_single_fault_and_detects_every_double_one(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    injection = Injection(trials=100, images=8, protections=(Secded(),))
    assert run(tmp_path / "a", network, data, injection)["totals"][0]["rates"]["masked"][1] == 1
    two = [(0, "weight", "0", 0, -1, 3, "flip"), (0, "weight", "0", 1, -1, 5, "flip")]
    faults = FaultTable.from_rows(
        [*two, (1, "weight", "0", 0, -1, 7, "flip"), (1, "weight", "0", 20, -1, 7, "flip")],
        layers=[node.name for node in network.nodes],
    )
    folder = tmp_path / "b"
    prepare_campaign(folder, network, injection, data, faults=faults)
    table = Worker(folder).run(0)
    assert table["due"].tolist() == [8, 0]
    assert table["masked"].tolist() == [0, 8]
    assert table["correct"].tolist()[0] == 0


def test_bounds_pull_large_activations_back(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    group = FaultGroup(sites=("output",), bits=(7,))
    plain = run(tmp_path / "a", network, data, Injection(faults=(group,), trials=200, images=12))
    bounded = Injection(faults=(group,), trials=200, images=12, protections=(Ranger(),))
    ranged = run(tmp_path / "b", network, data, bounded)
    assert ranged["campaign"]["golden_acc"] == plain["campaign"]["golden_acc"]
    rates = [s["totals"][0]["rates"]["sdc20"][1] for s in (plain, ranged)]
    assert rates[1] <= rates[0]


def test_bounds_need_training_images(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    injection = Injection(images=8, protections=(Ranger(),))
    with pytest.raises(SpecError, match="training images"):
        prepare_campaign(tmp_path / "c", network, injection, data)


def test_several_kinds_of_fault_stand_apart_or_strike_together(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    kinds = (
        FaultGroup(rate=1e-2),
        FaultGroup(sites=("accumulator",), kind={"kind": "stuck_at", "value": 1}),
    )
    apart = run(tmp_path / "a", network, data, Injection(faults=kinds, trials=70, images=8))
    assert [row["trials"] for row in apart["totals"]] == [70, 70]
    injection = Injection(faults=kinds, trials=70, images=8, together=True)
    joint = run(tmp_path / "b", network, data, injection)
    assert [(row["group"], row["trials"]) for row in joint["totals"]] == [(-1, 70)]
    assert joint["totals"][0]["rates"]["masked"][1] <= apart["totals"][0]["rates"]["masked"][1]


def test_only_images_that_are_right_can_be_asked_for(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    right = int((network(data.inputs()).argmax(1) == data.labels).sum())
    injection = Injection(trials=10, images=right, only_correct=True)
    assert run(tmp_path / "a", network, data, injection)["campaign"]["golden_acc"][1] == 1.0
    with pytest.raises(SpecError, match=f"got {right}"):
        prepare_campaign(
            tmp_path / "b",
            network,
            Injection(trials=10, images=right + 1, only_correct=True),
            data,
        )


def test_an_exhaustive_campaign_has_no_uncertainty_but_that_of_images(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    group = FaultGroup(sites=("bias",), exhaustive=True)
    summary = run(tmp_path / "c", network, data, Injection(faults=(group,), images=8))
    total = summary["totals"][0]
    assert total["trials"] == total["population"] == 14 * 8
    low, value, high = total["rates"]["masked"]
    assert low == pytest.approx(value) == pytest.approx(high)


def test_fit_is_raw_rate_times_bits_times_probability(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    injection = Injection(trials=100, images=8, fit_per_mbit=500.0)
    total = run(tmp_path / "c", network, data, injection)["totals"][0]
    bits = total["population"]
    expected = [500.0 * bits / 1e6 * end for end in total["rates"]["sdc1"]]
    assert total["fit"] == pytest.approx(expected)


def test_the_checksum_does_not_depend_on_the_order_of_trials() -> None:
    columns = {name: np.arange(4) for name in ("trial", *COUNTS)}
    turned = {name: column[::-1] for name, column in columns.items()}
    assert checksum(columns) == checksum(turned)
    turned["sdc1"] = turned["sdc1"] + 1
    assert checksum(columns) != checksum(turned)


SCRIPT = """
import sys, time
from pathlib import Path
from bitproof.injection import carry_out_campaign
from bitproof.injection.worker import Worker
run = Worker.run
def slowly(self, chunk):
    time.sleep(0.05)
    return run(self, chunk)
Worker.run = slowly
print("go", flush=True)
carry_out_campaign(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_doubled_or_changed(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    injection = Injection(trials=1500, images=12)
    run(tmp_path / "whole", network, data, injection)
    folder = tmp_path / "c"
    prepare_campaign(folder, network, injection, data)
    moments = np.random.default_rng(0).uniform(0, 0.25, 20)
    for moment in moments:
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moment)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    carry_out_campaign(folder)
    assert (folder / "summary.json").read_bytes() == (
        tmp_path / "whole" / "summary.json"
    ).read_bytes()


class Killing(Pool[Any, Any]):
    """Kills workers after their first result."""

    def __init__(self, pool: Pool[Any, Any], kill: Callable[[], None]) -> None:
        self.pool, self.kill = pool, kill

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for number, found in enumerate(self.pool.run(tasks)):
            yield found
            if number == 0:
                self.kill()

    def close(self) -> None:
        self.pool.close()


@pytest.mark.slow
def test_a_killed_worker_is_replaced(
    whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    class Deadly(Processes):
        def open(self, work: Work[Any, Any]) -> Pool[Any, Any]:
            return Killing(super().open(work), kill)

    def kill() -> None:
        for child in _children():
            os.kill(child, signal.SIGKILL)

    run(tmp_path / "c", network, data, executor=Deadly(workers=2))
    assert sum_of(tmp_path / "c") == sum_of(whole)


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, listed) if b"spawn_main" in _command(pid)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.slow
def test_a_killed_ray_actor_is_replaced(
    whole: Path, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("ray")

    class Deadly(Ray):
        def open(self, work: Work[Any, Any]) -> Pool[Any, Any]:
            return Killing(super().open(work), kill)

    def kill() -> None:
        subprocess.run(["pkill", "-9", "-f", "ray::_Actor"], check=False)

    run(tmp_path / "c", network, data, executor=Deadly(workers=2))
    assert sum_of(tmp_path / "c") == sum_of(whole)


DRIVER = """
import sys
from pathlib import Path
from bitproof.evaluation import Ray
from bitproof.injection import carry_out_campaign
carry_out_campaign(Path(sys.argv[1]), executor=Ray(workers=1))
"""


@pytest.mark.slow
def test_after_the_ray_driver_is_killed_the_campaign_goes_on(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    injection = Injection(trials=4000, images=12)
    run(tmp_path / "whole", network, data, injection)
    folder = tmp_path / "c"
    prepare_campaign(folder, network, injection, data)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)])
    while not list(folder.glob("parts/part-*.parquet")) and driver.poll() is None:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    done = len(list(folder.glob("parts/part-*.parquet")))
    assert 0 < done < len(Worker(folder).chunks)
    carry_out_campaign(folder, executor=Ray(workers=1))
    assert sum_of(folder) == sum_of(tmp_path / "whole")
