"""A small trained network, three multipliers, and costs for them."""

from pathlib import Path

import pytest
import torch

from bitproof.approx import Exact, Truncated
from bitproof.approx.base import Multiplier
from bitproof.data import DATA, Dataset, Splits
from bitproof.explore import MultiplierSet, read_multipliers
from bitproof.models import MODELS
from bitproof.quant import IntegerNetwork, Scheme, quantize
from bitproof.recipe.building import build
from bitproof.train import Optimization, train_

MULTIPLIERS: dict[str, Multiplier] = {
    "exact": Exact(signed=True),
    "mild": Truncated(columns=5, signed=True),
    "coarse": Truncated(columns=7, signed=True),
}
COSTS = """name,area_um2,power_mw,delay_ns
exact,700,0.4,1.5
mild,500,0.3,1.4
coarse,300,0.1,1.2
"""


@pytest.fixture(scope="session")
def splits() -> Splits:
    return DATA.build({"kind": "digits"}).load(None)


@pytest.fixture(scope="session")
def network(splits: Splits) -> IntegerNetwork:
    """Return the network of the demo, trained for eight epochs, signed and symmetric."""
    model = build(MODELS.build({"kind": "digits_cnn"}), splits.train)
    generator = torch.Generator().manual_seed(0)
    how = Optimization(epochs=8, learning_rate=0.1, schedule="one_cycle")
    train_(model, splits.train, how, generator=generator)
    weight = {"kind": "affine", "symmetric": True, "signed": True}
    scheme = Scheme.model_validate(
        {"weight": weight, "activation_signed": True, "activation_symmetric": True}
    )
    return quantize(model.eval(), splits.train.inputs(slice(0, 256)), scheme)


@pytest.fixture(scope="session")
def cost_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("costs") / "costs.csv"
    path.write_text(COSTS)
    return path


@pytest.fixture(scope="session")
def blocks(cost_file: Path) -> MultiplierSet:
    return read_multipliers(MULTIPLIERS, costs=str(cost_file))


@pytest.fixture(scope="session")
def images(splits: Splits) -> Dataset:
    return splits.test.first(200)
