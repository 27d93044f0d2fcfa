"""Where small images end: from this size on, a network takes the form made for ImageNet."""

LARGE = 64
"""Height and width from which images count as large, in pixels."""


def are_large(image_size: int) -> bool:
    """Tell whether images of this height and width get the ImageNet form of a network.

    Example:
        >>> are_large(32), are_large(224)
        (False, True)
    """
    return image_size >= LARGE
