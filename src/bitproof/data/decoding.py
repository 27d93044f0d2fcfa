"""Pictures out of files that nobody vouches for, to one size, several at a time.

Model:  bilinear resampling as Pillow does it, with the support grown when it shrinks (antialias).
        `crop` brings the shorter side to size and cuts the centre out, `stretch` changes the
        aspect. Transparency is dropped, of an animation the first frame is taken, 16-bit grey is
        divided by 257; orientation tags are not applied (as torchvision's ImageFolder does not).
        Pixels lie in memory once, as bytes: what would not fit is refused before decoding.
"""

import io
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from bitproof.core.errors import DataError, shorten
from bitproof.data.memory import FEWER, check_fits
from bitproof.data.npz import DAMAGE

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
"""Of files that are taken for images."""
MOST_PIXELS = 100_000_000
"""Of one image as it lies in its file: 10,000 x 10,000."""
THREADS = 8
TOGETHER = 64
"""Images that one thread decodes before it takes the next ones."""

Fit = Literal["crop", "stretch"]


@dataclass(frozen=True)
class Form:
    """What every image becomes."""

    channels: Literal[1, 3] = 3
    size: tuple[int, int] | None = None
    """Height and width, in pixels; None: that of the first image, which all others must have."""
    fit: Fit = "crop"


@dataclass
class Decoder:
    """Images of one form, filled in bit by bit.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), (255, 0, 0)).save(file, "PNG")
        >>> decoder = Decoder("red", 1, Form(size=(1, 1)))
        >>> decoder.decode([0], [file.getvalue()], ["red.png"])
        >>> decoder.images.flatten().tolist()
        [255, 0, 0]
    """

    name: str
    n: int
    form: Form
    _pixels: np.ndarray | None = field(default=None, init=False)
    _first: str = field(default="", init=False)

    @property
    def images(self) -> UInt8[Tensor, "n c h w"]:
        """All images."""
        assert self._pixels is not None
        return torch.from_numpy(self._pixels)

    def decode(
        self, places: Sequence[int], sources: Sequence[Path | bytes], names: Sequence[str]
    ) -> None:
        """Decode files, or what was in them, to these places; `names` are for messages.

        Raises:
            DataError: one is no image, damaged, too large, or of another size than the others; or
                all together do not fit into memory.
        """
        if not len(places):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody reads here
            if self._pixels is None:
                first = _decode(sources[0], names[0], self.form)
                check_fits(self.name, (self.n, *first.shape), cure=FEWER)
                self._pixels, self._first = np.zeros((self.n, *first.shape), np.uint8), names[0]

            def work(start: int) -> None:
                for at in range(start, min(start + TOGETHER, len(places))):
                    self._put(places[at], _decode(sources[at], names[at], self.form), names[at])

            starts = range(0, len(places), TOGETHER)
            pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1, len(starts)))
            try:
                for _ in pool.map(work, starts):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)

    def _put(self, place: int, image: np.ndarray, name: str) -> None:
        assert self._pixels is not None
        if image.shape != self._pixels.shape[1:]:
            (_, high, wide), (_, h, w) = self._pixels.shape[1:], image.shape
            raise DataError(
                f"{self.name}: wanted images of one size, got {wide} x {high} ({self._first}) and "
                f"{w} x {h} ({name}); give a size, such as "
                "size = 32 (on the command line: folder:DIR,size=32)"
            )
        self._pixels[place] = image


def _decode(source: Path | bytes, name: str, form: Form) -> np.ndarray:
    """Return one image, (c, h, w)."""
    from PIL import Image  # noqa: PLC0415 (slow to import, and most sets need none)

    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"{name}: wanted at most {MOST_PIXELS:,} pixels, "
                    f"got {image.width} x {image.height}"
                )
            pixels = np.asarray(_fitted(_plain(image, name, form.channels), form))
    except (*DAMAGE, SyntaxError, TypeError, struct.error, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: wanted an image that decodes: {shorten(reason)}") from None
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], form.channels).transpose(2, 0, 1))


def _plain(image: "Image", name: str, channels: int) -> "Image":
    """Return the image in 8 bits, grey or RGB."""
    from PIL import Image  # noqa: PLC0415

    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name}: wanted 8 or 16 bits a pixel, got values up to {values.max()}")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    elif image.mode == "F":
        raise DataError(f"{name}: wanted 8 or 16 bits a pixel, got floats; save them as npz")
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: "Image", form: Form) -> "Image":
    """Return the image in the size of the form."""
    from PIL import Image  # noqa: PLC0415

    if form.size is None or (image.height, image.width) == form.size:
        return image
    high, wide = form.size
    if form.fit == "stretch":
        return image.resize((wide, high), Image.Resampling.BILINEAR)
    scale = max(high / image.height, wide / image.width)
    # What lies inside the crop, in pixels of the file: no second rounding by a whole-image resize.
    box_w, box_h = wide / scale, high / scale
    left, top = (image.width - box_w) / 2, (image.height - box_h) / 2
    box = (
        max(0.0, left),
        max(0.0, top),
        min(float(image.width), left + box_w),
        min(float(image.height), top + box_h),
    )
    return image.resize((wide, high), Image.Resampling.BILINEAR, box=box)
