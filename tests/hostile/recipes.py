"""The recipes of a toy run, a campaign and a search."""

from pathlib import Path

TOY = Path(__file__).parents[1] / "recipe" / "toy.toml"
CAMPAIGN = """
recipe = 1
name = "toy-campaign"
model = { kind = "digits_cnn", width = 4 }

[data]
kind = "digits"
train_size = 128
test_size = 40

[quantization]
calibration_images = 32

[injection]
trials = 60
images = 4
"""
SEARCH = """
recipe = 1
name = "toy-search"
model = { kind = "digits_cnn", width = 4 }

[data]
kind = "digits"

[train]
epochs = 1
learning_rate = 0.1

[quantization]
activation_signed = true
activation_symmetric = true
weight = { kind = "affine", symmetric = true, signed = true }

[recover.retrain]
kind = "approximation_aware"
optimization = { epochs = 1, images_per_epoch = 32, learning_rate = 0.01 }

[multipliers]
exact = { kind = "exact", signed = true }
mild = { kind = "truncated", columns = 5, signed = true }

[exploration]
costs = "costs.csv"
images = 40
profile_images = 32
check = 4
goal = { minimize = { power = 1.0 }, max_drop = 0.9 }

[[exploration.evaluation.threats]]
kind = "clean"

[[exploration.searches]]
kind = "hawx"
budget = 6
"""
COSTS = """name,area_um2,power_mw,delay_ns
exact,700,0.4,1.5
mild,500,0.3,1.4
"""
