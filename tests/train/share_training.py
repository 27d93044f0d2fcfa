"""Run by torchrun in `test_team.py`: trains in as many processes as there are, writes what came."""

import json
import sys
from pathlib import Path

import torch

from bitproof.core.rng import make_generator
from bitproof.core.stop_request import StopRequest
from bitproof.data import DATA
from bitproof.data.augment import Flip
from bitproof.harden import HARDEN, Candidate, TrainingContext
from bitproof.models import MODELS, save_weights
from bitproof.train import Checkpointer, Optimization, joined_group, train_

STEPS = Optimization(epochs=2, batch_size=99, learning_rate=0.05, max_norm=5.0)
STAGE = {
    "kind": "fault_aware",
    "warmup_steps": 2,
    "epsilon": 0.05,
    "ber_start": 1e-3,
    "ber_end": 1e-3,
    "lam_keep": 0.0,
    "inject_below": "none",
    "optimization": {"epochs": 1, "batch_size": 99},
}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined_group("cpu") as group:
        splits = DATA.build({"kind": "digits", "validation_fraction": 0.0}).load()
        model = MODELS.build({"kind": "digits_cnn", "width": 4}).build(
            in_channels=1, image_size=8, n_classes=10, generator=make_generator(0)
        )
        checkpointer = Checkpointer(out / "snapshot.safetensors", stop=StopRequest(), every_s=0.0)
        history = train_(
            model,
            splits.train,
            STEPS,
            generator=make_generator(1),
            augmentation=[Flip()],
            checkpointer=checkpointer,
            group=group,
        )
        setting = TrainingContext(splits.train, seed=1, group=group)
        hardened = HARDEN.build(STAGE).apply(Candidate(model), setting)
        if group.is_main:
            losses = [*history, *hardened.record[0]["record"]["loss"]]
            save_weights(hardened.model, out / "weights.safetensors")
            (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
