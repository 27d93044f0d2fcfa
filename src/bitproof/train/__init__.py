"""One plain epoch loop; the loss is an argument. It can stop, go on, and be shared."""

from bitproof.train.batches import Batch, Batches
from bitproof.train.keeper import Companion, Keeper
from bitproof.train.loop import History, Loss, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.plain import train_
from bitproof.train.team import ALONE, Team, joined_team

__all__ = [
    "ALONE",
    "Batch",
    "Batches",
    "Companion",
    "History",
    "Keeper",
    "Loss",
    "Optimization",
    "Team",
    "fit_",
    "joined_team",
    "train_",
]
