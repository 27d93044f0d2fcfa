"""One plain epoch loop; the loss is an argument. It can stop, go on, and be shared."""

from bitproof.train.batches import Batch, Batches
from bitproof.train.checkpointing import Checkpointable, Checkpointer
from bitproof.train.loop import History, Loss, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.plain import train_
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup, joined_group

__all__ = [
    "SINGLE_PROCESS",
    "Batch",
    "Batches",
    "Checkpointable",
    "Checkpointer",
    "History",
    "Loss",
    "Optimization",
    "ProcessGroup",
    "fit_",
    "joined_group",
    "train_",
]
