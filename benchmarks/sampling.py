"""Random bit errors in the weights of a ResNet-18: sparse draw against one draw per bit.

rival: a float64 uniform for every stored bit, compared with the rate, as public codes do.
ours:  `RandomFlips.corrupt`, which draws the flips only.
limit: copy the words and flip bits that are already known.
All three give a new tensor; one thread; 11,164,352 words of 8 bits.
"""

import torch
from table import Row, interleave, json_path, save, show
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.faults import Flips, RandomFlips, sparse_flips

N_WORDS = 11_164_352
BERS = (1e-2, 1e-3, 1e-4)
ROUNDS = 9


def flip_dense(codes: Tensor, ber: float, generator: torch.Generator) -> Tensor:
    flips = torch.zeros_like(codes)
    for bit in range(8):
        draw = torch.rand(codes.shape, generator=generator, dtype=torch.float64)
        flips |= (draw < ber).to(torch.uint8) << bit
    return codes ^ flips


def flip_known(codes: Tensor, flips: Flips) -> Tensor:
    words = codes.clone()
    flips.xor_(words)
    return words


def main() -> None:
    path = json_path("Sparse against dense random bit errors.")
    torch.set_num_threads(1)
    generator = make_generator(0)
    codes = torch.randint(0, 256, (N_WORDS,), generator=generator, dtype=torch.uint8)
    best: list[Row] = []
    middle: list[Row] = []
    for ber in BERS:
        fault = RandomFlips(ber=ber)
        known = sparse_flips(N_WORDS, bits=8, ber=ber, generator=generator)
        work = {
            "rival": lambda ber=ber: flip_dense(codes, ber, generator),
            "ours": lambda fault=fault: fault.corrupt(codes, bits=8, generator=generator),
            "limit": lambda known=known: flip_known(codes, known),
        }
        times = interleave(work, rounds=ROUNDS)
        name = f"flips at BER {ber:.2%}"
        for rows, rank in ((best, 0), (middle, ROUNDS // 2)):
            rival, ours, limit = (times[case][rank] for case in work)
            rows.append(Row(name, rival, ours, limit))
    show(f"Minima of {ROUNDS} rounds (the rows of --json)", best)
    show(f"Medians of {ROUNDS} rounds", middle)
    if path:
        save(path, best)


if __name__ == "__main__":
    main()
