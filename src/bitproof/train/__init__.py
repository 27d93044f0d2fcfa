"""One plain epoch loop; the loss is an argument."""

from bitproof.train.loop import Batch, History, Loss, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.plain import train_

__all__ = ["Batch", "History", "Loss", "Optimization", "fit_", "train_"]
