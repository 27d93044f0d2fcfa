"""Networks of tokens: campaigns as for images, attacks on inputs refused, wrong tokens named."""

import pytest
import torch
from torch import Tensor, nn

import bitproof as bp
from bitproof.core.errors import InputRangeError, SpecError
from bitproof.faults.table import FaultTable
from bitproof.injection.engine import Engine
from bitproof.quant import IntegerNetwork


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        result: Tensor = self.head(self.encoder(x).mean(1))
        return result


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(20, (24, 6), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network(tokens: Tensor) -> IntegerNetwork:
    torch.manual_seed(0)
    return bp.quantize(Classifier(), tokens)


def test_a_campaign_has_a_line_for_each_layer(network: IntegerNetwork, tokens: Tensor) -> None:
    labels = network(tokens).argmax(1)
    data = bp.Dataset.from_arrays(tokens, labels, n_classes=3)
    found = bp.inject(network, data, bp.Injection(images=16, trials=60, allocation="equal"))
    layers = {row["layer"] for row in found["layers"]}
    assert {"words", "places", "head", "encoder.layers.0.self_attn.q"} <= layers
    assert found["campaign"]["golden_acc"][1] == 1.0


def test_a_flip_in_the_table_of_words_changes_sentences_with_that_word_alone(
    network: IntegerNetwork, tokens: Tensor
) -> None:
    faults = FaultTable.from_rows(
        [(0, "weight", "words", 4 * 8 + n, -1, 7, "flip") for n in range(8)]
    )
    engine = Engine(network, tokens, network(tokens).argmax(1))
    faulty = engine.reference(faults, 0)
    changed = (faulty != network(tokens)).any(1)
    assert torch.equal(changed, (tokens == 4).any(1))
    assert engine.run(faults, [0])[0, 0] == int((~changed).sum())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.full((2, 6), 20), "wanted tokens from 0 to 19, got 20 to 20"),
        (torch.full((2, 6), -1), "got -1 to -1"),
        (torch.rand(2, 6), "wanted token numbers"),
    ],
)
def test_what_is_no_token_is_refused(network: IntegerNetwork, inputs: Tensor, message: str) -> None:
    with pytest.raises(InputRangeError, match=message):
        network(inputs)


def test_inputs_that_have_no_gradient_cannot_be_attacked(
    network: IntegerNetwork, tokens: Tensor
) -> None:
    data = bp.Dataset.from_arrays(tokens, network(tokens).argmax(1), n_classes=3)
    with pytest.raises(SpecError, match="token"):
        bp.attack(network, bp.LinfPGD(epsilon=0.1), data)


def test_a_stored_number_is_a_place_like_any_other() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.by = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.3))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(x) * self.by
            return result

    torch.manual_seed(0)
    inputs = torch.rand(20, 4)
    network = bp.quantize(Shifted(), inputs)
    data = bp.Dataset.from_arrays(inputs, network(inputs).argmax(1), n_classes=3)
    found = bp.inject(network, data, bp.Injection(images=8, trials=80, allocation="equal"))
    assert "by" in {row["layer"] for row in found["layers"]}
