"""Which multiplier computes the products of which layer, as one value."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bitproof.approx.base import AnyMultiplier, Multiplier
from bitproof.approx.control_variate import correct_means
from bitproof.approx.deploy import applicable, with_multipliers
from bitproof.core.spec import Spec
from bitproof.quant.network import IntegerNetwork


class Arithmetic(Spec):
    """What multiplies in a network; exact products where nothing is named.

    Example:
        >>> from bitproof.approx import Truncated
        >>> mild, coarse = Truncated(columns=2, signed=True), Truncated(columns=6, signed=True)
        >>> Arithmetic(multiplier=mild, layers={"fc": coarse}).is_exact
        False
    """

    multiplier: AnyMultiplier | None = None
    """Of every layer that is not named below; None: exact products."""
    layers: dict[str, AnyMultiplier | tuple[AnyMultiplier, ...]] = Field(default_factory=dict)
    """Of single layers, by name: one multiplier, or one for each filter."""
    correct_means: bool = False
    """Take the mean error of each filter's sums off again (control variate), as it is on the
    calibration images."""

    @property
    def is_exact(self) -> bool:
        """Whether all products are exact."""
        return self.multiplier is None and not self.layers

    def apply(
        self,
        network: IntegerNetwork,
        images: Float[Tensor, "n *features"],
        *,
        data_dir: Path | None = None,
    ) -> IntegerNetwork:
        """Return `network` with these multipliers.

        Args:
            network: with exact products.
            images: calibration images in [0, 1], for `correct_means`.
            data_dir: folder that tables are read from; see `data_root`.

        Raises:
            QuantizationError: there is no such layer, or it has other filters.
            DataError: a table is missing.
        """
        if self.is_exact:
            return network
        chosen: dict[str, Multiplier | Sequence[Multiplier]] = dict(self.layers)
        if self.multiplier is not None:
            for name in applicable(network):
                chosen.setdefault(name, self.multiplier)
        done = with_multipliers(network, chosen, data_dir=data_dir)
        return correct_means(done, images) if self.correct_means else done

    def changed(
        self, multiplier: Multiplier | None, layers: Mapping[str, object], *, correct_means: bool
    ) -> "Arithmetic":
        """Return this with other multipliers where some are named; means stay corrected.

        A multiplier for all layers takes the place of whatever single layers had.
        """
        return Arithmetic.model_validate(
            {
                "multiplier": multiplier or self.multiplier,
                "layers": dict(layers) if multiplier else {**self.layers, **layers},
                "correct_means": correct_means or self.correct_means,
            }
        )
