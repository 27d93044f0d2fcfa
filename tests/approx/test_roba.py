import torch

from bitproof.approx import Roba, error_figures
from bitproof.approx.figures import relative_errors
from bitproof.approx.roba import nearest_power


def power_by_search(number: int) -> int:
    """Return the nearest power of two; of two as near, the larger, but 2 for 3."""
    if number in {0, 3}:
        return {0: 0, 3: 2}[number]
    return min((1 << bit for bit in range(10)), key=lambda power: (abs(power - number), -power))


def test_powers_are_the_nearest() -> None:
    numbers = torch.arange(512)
    assert nearest_power(numbers).tolist() == [power_by_search(n) for n in range(512)]


def test_the_product_of_both_remainders_is_missing() -> None:
    rest = torch.tensor([number - power_by_search(number) for number in range(256)])
    assert torch.equal(Roba().table().errors.long(), -rest.outer(rest))


def test_the_worst_error_is_the_published_ninth() -> None:
    # TVLSI 2017: 11.1 % at most.
    assert float(relative_errors(Roba().table()).max()) == 1 / 9


def test_errors_of_both_signs_nearly_cancel() -> None:
    figures = error_figures(Roba().table())
    assert abs(figures.bias) < 0.001 * figures.med


def test_signs_go_round_the_multiplier() -> None:
    signed, unsigned = Roba(signed=True).table().products, Roba().table().products
    assert torch.equal(signed[129:, 129:], unsigned[1:128, 1:128].flip(0, 1))
    assert torch.equal(signed[1:128, 129:], -unsigned[1:128, 1:128].flip(1))
