"""One plain epoch loop; the loss is an argument. It can stop, go on, and be shared."""

from bitproof.train.batches import Batch, Batches
from bitproof.train.checkpointing import Checkpointable, Checkpointer
from bitproof.train.loop import Loss, fit_, train_
from bitproof.train.optimization import Optimization
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup, joined_group

__all__ = [
    "SINGLE_PROCESS",
    "Batch",
    "Batches",
    "Checkpointable",
    "Checkpointer",
    "Loss",
    "Optimization",
    "ProcessGroup",
    "fit_",
    "joined_group",
    "train_",
]
