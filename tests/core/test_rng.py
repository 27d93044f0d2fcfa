import hashlib

import torch

from bitproof.core.rng import derive_seed, draw_seed, make_generator


def test_seed_is_the_hash_of_its_parts() -> None:
    wanted = hashlib.sha256(b"7\x1fchip\x1f3").digest()[:8]
    assert derive_seed(7, "chip", 3) == int.from_bytes(wanted, "little") // 2


def test_parts_are_kept_apart() -> None:
    seeds = {
        derive_seed(0, "a", "b"),
        derive_seed(0, "ab"),
        derive_seed(0, "b", "a"),
        derive_seed(1, "a", "b"),
        derive_seed(0),
    }
    assert len(seeds) == 5


def test_generators_depend_on_their_purpose_alone() -> None:
    first = torch.rand(4, generator=make_generator(0, "chip", 1))
    torch.rand(10)
    assert torch.equal(first, torch.rand(4, generator=make_generator(0, "chip", 1)))
    assert not torch.equal(first, torch.rand(4, generator=make_generator(0, "chip", 2)))


def test_making_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    draw_seed(make_generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_drawn_seeds_differ_and_fit() -> None:
    generator = make_generator(0)
    seeds = [draw_seed(generator) for _ in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**62 for seed in seeds)
