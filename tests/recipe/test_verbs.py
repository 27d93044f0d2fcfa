import torch
from torch import Tensor, nn

import bitproof as bp
from bitproof.data import Dataset


class Biased(nn.Module):
    """Two of these differ in a plain attribute, which neither weights nor representation show."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, inputs: Tensor) -> Tensor:
        answers = torch.full((len(inputs),), self.answer)
        return nn.functional.one_hot(answers, 2).float() + 0 * inputs.flatten(1)[:, :2]


def test_float_models_that_look_alike_are_measured_apart() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    data = Dataset.from_arrays(torch.rand(4, 1, 2, 2), labels)
    networks: dict[str, bp.IntegerNetwork | nn.Module] = {
        "zero": Biased(0).eval(),
        "one": Biased(1).eval(),
    }
    rows = bp.evaluate(networks, data, bp.Evaluation(threats=(bp.Clean(),)))
    assert [(row.variant, row.value) for row in rows] == [("zero", 0.75), ("one", 0.25)]
