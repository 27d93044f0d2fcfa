from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import DataError, InputRangeError
from bitproof.data.dataset import Dataset, Splits
from bitproof.metrics import Classification, Segmentation


def make(n: int = 6, *, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 4, 5), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return Dataset(name="toy", images=images, labels=labels, n_classes=3)


def test_inputs_are_pixels_over_255() -> None:
    data = make()
    assert torch.equal(data.inputs(), data.images.float() / 255)
    assert torch.equal(data.inputs(slice(1, 3)), data.images[1:3].float() / 255)
    picked = torch.tensor([4, 0, 4])
    assert torch.equal(data.inputs(picked), data.images[picked].float() / 255)


def test_float_images_pass_unchanged() -> None:
    images = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Dataset.from_arrays(images, [0, 1]).inputs(), images)


@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_blocks_are_views_that_cover_the_set_in_order(n: int) -> None:
    data = make(n)
    blocks = list(data.blocks(3))
    assert [len(block) for block in blocks] == {0: [], 1: [1], 6: [3, 3], 7: [3, 3, 1]}[n]
    for at, block in enumerate(blocks):
        assert (block.name, block.n_classes) == (data.name, data.n_classes)
        assert torch.equal(block.labels, data.labels[3 * at : 3 * at + 3])
        assert block.images.data_ptr() == data.images[3 * at :].data_ptr()
        assert block.labels.data_ptr() == data.labels[3 * at :].data_ptr()
    if n:
        assert torch.equal(torch.cat([block.inputs() for block in blocks]), data.inputs())


@pytest.mark.parametrize("bad", [-0.001, 1.001, float("nan"), float("inf"), 255.0])
def test_a_single_float_pixel_out_of_range_is_refused(bad: float) -> None:
    images = torch.full((2, 1, 3, 3), 0.5)
    images[1, 0, 2, 1] = bad
    with pytest.raises(InputRangeError, match=r"toy: wanted pixels in \[0, 1\], got"):
        Dataset.from_arrays(images, [0, 1], name="toy")


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_out_of_range_are_refused(labels: list[int]) -> None:
    images = np.zeros((2, 1, 3, 3), np.uint8)
    with pytest.raises(DataError, match="wanted labels from 0 to 2, got"):
        Dataset.from_arrays(images, labels, n_classes=3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros(2, np.uint8), [0, 1], "shape"),
        (np.zeros((2, 3, 3), np.int64), [0, 1], "int64 of shape"),
        (np.zeros((2, 1, 3, 3), np.int32), [0, 1], "int32"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0], "wanted 2 int64 labels"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0.0, np.nan], "wanted finite labels"),
        (np.zeros((2, 1, 3, 3), np.uint8), [False, True], "bool"),
        (np.zeros((2, 5), np.int64) - 1, [0, 1], "wanted token numbers from 0, got -1"),
        ([["a"]], [0], "cannot be read as numbers"),
        ([[0], [0, 1]], [0], "cannot be read as numbers"),
    ],
)
def test_wrong_arrays_are_refused_by_name(images: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        Dataset.from_arrays(images, labels, name="mine", n_classes=2)


@pytest.mark.parametrize("shape", [(4, 7), (4, 2, 9), (4, 1, 3, 3, 3)])
def test_inputs_may_have_any_shape_beside_the_images(shape: tuple[int, ...]) -> None:
    features = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    data = Dataset.from_arrays(features, [0, 1, 0, 1])
    assert data.inputs(slice(2)).shape == (2, *shape[1:])
    assert not data.is_images
    with pytest.raises(InputRangeError):
        Dataset.from_arrays(features + 0.1, [0, 1, 0, 1])


def test_tokens_come_back_as_they_are() -> None:
    data = Dataset.from_arrays(np.array([[5, 0, 2], [1, 1, 1]], np.int32), [0, 1])
    assert data.is_tokens
    assert torch.equal(data.inputs(), torch.tensor([[5, 0, 2], [1, 1, 1]]))
    assert data.first(1).is_tokens


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([[0, 1, 1], [1, 0, 0]], 2),
        (np.array([[[0, 4], [-100, 1]]] * 2), 5),
        ([0.5, -3.0], 1),
        (np.zeros((2, 3)), 3),
    ],
)
def test_labels_may_be_of_any_task(labels: object, classes: int) -> None:
    data = Dataset.from_arrays(np.zeros((2, 4)), labels)
    assert (len(data), data.n_classes) == (2, classes)
    assert data.labels.dtype == (torch.float32 if classes in {1, 3} else torch.int64)


def test_only_parts_of_an_answer_may_be_left_out_by_their_label() -> None:
    with pytest.raises(DataError, match="got -100 to 1"):
        Dataset.from_arrays(np.zeros((2, 4)), [-100, 1])
    masks = np.array([[[0, 255]]])
    with pytest.raises(DataError, match="wanted labels from 0 to 2, got 0 to 255"):
        Dataset.from_arrays(np.zeros((1, 4)), masks, n_classes=3)
    Dataset.from_arrays(np.zeros((1, 4)), masks, n_classes=3, task=Segmentation(ignore=255))


def test_digest_depends_on_the_task_but_for_classification() -> None:
    data = make()
    assert data.with_task(Classification()).digest() == data.digest()
    assert data.with_task(Classification(probabilities=True)).digest() != data.digest()


def test_digest_depends_on_the_shape_of_labels() -> None:
    labels = np.array([[0, 1, 1, 0]])
    row, square = (
        Dataset.from_arrays(np.zeros((1, 4)), labels.reshape(s)) for s in ((1, 4), (1, 2, 2))
    )
    assert row.digest() != square.digest()


def test_from_arrays_does_not_share_memory_with_numpy() -> None:
    pixels = np.zeros((1, 1, 2, 2), np.uint8)
    data = Dataset.from_arrays(pixels, [0])
    pixels[:] = 7
    assert not data.images.any()


def test_from_loader_joins_batches_in_order() -> None:
    data = make(7)
    pairs = torch.utils.data.TensorDataset(data.images, data.labels)
    loader = torch.utils.data.DataLoader(pairs, batch_size=3)
    joined = Dataset.from_loader(loader, n_classes=3)
    assert torch.equal(joined.images, data.images)
    assert torch.equal(joined.labels, data.labels)
    assert (joined.name, joined.n_classes) == ("user", 3)


def test_from_loader_takes_any_iterable_of_pairs() -> None:
    def batches() -> Iterator[tuple[np.ndarray, list[int]]]:
        yield np.full((2, 1, 2, 2), 0.25), [0, 4]

    joined = Dataset.from_loader(batches())
    assert (len(joined), joined.n_classes, joined.images.dtype) == (2, 5, torch.float32)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "the loader is empty"),
        ([torch.zeros(2, 1, 2, 2)], "got Tensor as batch 0"),
        ([(torch.zeros(1, 1, 2, 2), [0]), (torch.zeros(1, 1, 3, 3), [0])], "do not fit"),
    ],
)
def test_loaders_that_yield_no_fitting_pairs_are_refused(
    batches: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_loader(batches)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(0, 6))
def test_first_is_the_subset_of_the_first_indices(n: int) -> None:
    data = make()
    assert data.first(n).digest() == data.subset(list(range(n))).digest()
    assert len(data.first(n)) == n


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(DataError, match="wanted the first 7 images, the set holds 6"):
        make().first(7)
    with pytest.raises(DataError, match="wanted indices from 0 to 5, got 0 to 6"):
        make().subset([0, 6])
    with pytest.raises(DataError, match="got -1 to 0"):
        make().subset(torch.tensor([0, -1]))


def test_digest_tells_content_apart_and_ignores_the_name() -> None:
    data = make()
    renamed = Dataset(name="b", images=data.images, labels=data.labels, n_classes=3)
    assert renamed.digest() == data.digest()
    changed = data.images.clone()
    changed[0, 0, 0, 0] ^= 1
    labels = data.labels.clone()
    labels[0] = (labels[0] + 1) % 3
    others = [
        Dataset(name="toy", images=changed, labels=data.labels, n_classes=3),
        Dataset(name="toy", images=data.images, labels=labels, n_classes=3),
        Dataset(
            name="toy", images=data.images.reshape(6, 3, 5, 4), labels=data.labels, n_classes=3
        ),
        data.first(5),
        data.first(0),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == 6


def test_digest_does_not_depend_on_memory_layout() -> None:
    data = make()
    strided = data.images.contiguous(memory_format=torch.channels_last)
    other = Dataset(name="toy", images=strided, labels=data.labels, n_classes=3)
    assert other.digest() == data.digest()


def test_moving_to_the_same_device_keeps_the_object() -> None:
    data = make()
    assert data.to("cpu") is data
    splits = Splits(train=data, validation=data.first(0), test=data).to(torch.device("cpu"))
    assert splits.train is data


def test_moving_to_another_device_moves_images_and_labels() -> None:
    moved = Splits(train=make(0), validation=make(0), test=make(0)).to("meta")
    assert {moved.train.images.device.type, moved.test.labels.device.type} == {"meta"}


def test_a_set_shows_itself_in_lines_and_in_notebooks() -> None:
    data = Dataset.from_arrays(np.zeros((5, 3, 2, 2), np.uint8), [0, 1, 2, 1, 0], name="<mine>")
    assert repr(data).splitlines() == [
        "Dataset <mine>: 5 inputs",
        "  inputs: uint8 of shape (3, 2, 2), on cpu",
        "  labels: int64, 3 classes",
        "  task: as outputs and labels ask for",
    ]
    assert "&lt;mine&gt;" in data._repr_html_()
    splits = Splits(data, data.first(2), data.first(3))
    assert repr(splits).splitlines()[:4] == [
        "Splits of <mine>",
        "  train: 5 inputs",
        "  validation: 2 inputs",
        "  test: 3 inputs",
    ]
    assert splits._repr_html_().count("<tr>") == 4
