from functools import partial

import pytest

from bitproof.core.errors import UnknownKindError
from bitproof.reproduce import TABLES, find_table


def test_a_table_is_filed_under_its_name() -> None:
    assert all(table.name == name for name, table in TABLES.items())


@pytest.mark.parametrize("name", ["adam", "onnx"])
def test_a_table_to_come_is_not_there(name: str) -> None:
    with pytest.raises(UnknownKindError, match=f"no table '{name}'"):
        find_table(name)


def test_a_slip_is_told_what_is_near() -> None:
    with pytest.raises(UnknownKindError, match="Did you mean 'resq-matrix'"):
        find_table("resq-matrxi")


def test_the_published_gains_of_resq_stand_against_the_full_pipeline() -> None:
    table = find_table("resq-matrix")
    theirs = partial(table.find, level=8 / 255, network="vgg16", dataset="gtsrb")
    attack = theirs("s1+s2+s3", "linf_pgd", "gain")
    fault = theirs("s1+s2+s3", "random_flips", "gain")
    assert attack is not None
    assert fault is not None
    assert (attack.value, attack.trust, fault.value, fault.trust) == (0.1035, "S", 0.1247, "S")
    assert theirs("s1", "linf_pgd", "gain") is None
    assert theirs("s1+s2+s3", "none", "gain") is None


def test_a_published_number_stands_for_the_paper_s_networks_alone() -> None:
    table = find_table("resq-matrix")
    find = partial(table.find, "s1+s2+s3", "linf_pgd", "gain", level=8 / 255)
    assert find(network="resnet18", dataset="cifar10") is not None
    assert find(network="resnet20", dataset="cifar10") is None
    assert find(network="resnet18", dataset="fashion_mnist") is None


def test_a_published_number_of_one_level_stands_there_alone() -> None:
    find = partial(find_table("randbet-ladder").find, "rquant", "random_flips", "acc")
    at = {
        level: find(level=level, network="simplenet", dataset="cifar10") for level in (5e-3, 1e-2)
    }
    assert [number.value for number in at.values() if number] == [0.8872, 0.6795]
    assert find(level=2e-2, network="simplenet", dataset="cifar10") is None
