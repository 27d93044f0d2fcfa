import torch

from bitproof.attacks import LinfPGD
from bitproof.data import Dataset
from bitproof.evaluation import AdversarialExamples, Clean, MemoryFaults
from bitproof.explore.under_threat import under
from bitproof.quant import IntegerNetwork


def right(network: IntegerNetwork, data: Dataset) -> int:
    return int((network(data.inputs()).argmax(1) == data.labels).sum())


def test_attacked_images_lie_in_the_ball_and_are_harder(
    network: IntegerNetwork, images: Dataset
) -> None:
    threat = AdversarialExamples(attack=LinfPGD(epsilon=0.1, steps=4), levels=(0.1,))
    same, attacked = under(threat, 0.1, network, images, seed=0)
    assert same is network
    moved = (attacked.inputs() - images.inputs()).abs().max()
    assert 0.05 < float(moved) <= 0.1 + 1e-6
    assert torch.equal(attacked.labels, images.labels)
    assert right(network, attacked) < right(network, images)


def test_faulty_words_are_those_of_one_chip(network: IntegerNetwork, images: Dataset) -> None:
    threat = MemoryFaults(levels=(5e-2,), chips=3, sites=("weight", "activation"))
    faulty, same = under(threat, 5e-2, network, images, seed=0)
    again, _ = under(threat, 5e-2, network, images, seed=0)
    assert same is images
    assert faulty.digest() == again.digest() != network.digest()


def test_other_threats_change_nothing(network: IntegerNetwork, images: Dataset) -> None:
    assert under(Clean(), 0.0, network, images, seed=0) == (network, images)
