import io

import pytest
import torch
from PIL import Image

from bitproof.approx import (
    Exact,
    Kulkarni,
    Perforated,
    ProductTable,
    Truncated,
    character_map,
    picture,
    png,
)
from bitproof.approx.error_map import SHADES


def test_an_exact_multiplier_is_blank() -> None:
    assert character_map(Exact().table()) == [" " * 64] * 32
    assert bool((picture(Exact().table()) == 255).all())


@pytest.mark.parametrize("signed", [False, True])
def test_each_character_is_a_block_by_value(signed: bool) -> None:
    products = Exact(signed=signed).table().products.clone()
    products[0, 0] += 9
    lines = character_map(ProductTable(products, signed), rows=8, columns=16)
    dark = {(i, j) for i, line in enumerate(lines) for j, mark in enumerate(line) if mark != " "}
    assert dark == {(4, 8) if signed else (0, 0)}
    assert lines[4 if signed else 0][8 if signed else 0] == SHADES[-1]


def test_any_error_at_all_shows() -> None:
    products = Exact().table().products.clone()
    products[255, 255] += 30_000
    products[0, 0] += 1
    assert character_map(ProductTable(products, signed=False))[0][0] == SHADES[1]


def test_colours_tell_the_sign() -> None:
    red, _, blue = picture(Truncated(columns=6).table())[63, 63].tolist()
    assert blue > red
    # With a negative first operand, what is missing makes the product too large.
    red, _, blue = picture(Perforated(rows=3, signed=True).table())[0, 7 + 128].tolist()
    assert red > blue


def test_the_worst_error_is_the_darkest() -> None:
    dots = picture(Kulkarni().table())
    assert int(dots.int().sum(-1).argmin()) == 256 * 256 - 1


def test_a_png_holds_the_picture_between_captions() -> None:
    table = Kulkarni().table()
    with Image.open(io.BytesIO(png(table, "kulkarni")), formats=("PNG",)) as image:
        assert image.size == (512, 568)
        dot = image.getpixel((511, 28 + 511))
    assert dot == tuple(picture(table)[255, 255].tolist())
    assert torch.equal(table.products, Kulkarni().table().products)
