"""Faults in float32 words are bit flips of the IEEE 754 pattern, with whatever comes of it."""

import torch

from bitproof.core.bits import count_flips
from bitproof.core.rng import make_generator
from bitproof.faults import RandomFlips, corrupt_float32


def test_flips_are_those_of_the_words_read_as_integers() -> None:
    values, fault = torch.randn(500, generator=make_generator(0)), RandomFlips(ber=0.01)
    faulty = corrupt_float32({"w": values}, fault, generator=make_generator(1))["w"]
    codes = fault.corrupt(values.view(torch.int32), bits=32, generator=make_generator(1))
    assert torch.equal(faulty.view(torch.int32), codes)
    assert count_flips(values.view(torch.int32), codes, bits=32) > 100


def test_flipping_every_bit_inverts_every_pattern() -> None:
    values = torch.tensor([[0.0, 1.0], [-2.5, 3e38]])
    faulty = corrupt_float32({"w": values}, RandomFlips(ber=1.0), generator=make_generator(0))["w"]
    assert torch.equal(faulty.view(torch.int32), ~values.view(torch.int32))
    assert bool(faulty[0, 0].isnan())


def test_tensors_are_one_array_and_parameters_are_left_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 4))
    fault = RandomFlips(ber=0.2)
    parts = {"weight": weight, "bias": torch.zeros(5)}
    faulty = corrupt_float32(parts, fault, generator=make_generator(2))
    flat = torch.cat([weight.detach().flatten(), torch.zeros(5)])
    whole = corrupt_float32({"all": flat}, fault, generator=make_generator(2))["all"]
    joined = torch.cat([part.flatten() for part in faulty.values()])
    assert torch.equal(joined.view(torch.int32), whole.view(torch.int32))
    assert not faulty["weight"].requires_grad
    assert torch.equal(weight, torch.ones(3, 4))
