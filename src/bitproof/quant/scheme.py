"""How a whole network is quantized: one quantizer for each kind of stored word."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    model_serializer,
    model_validator,
)

from bitproof.core.errors import near, shorten
from bitproof.core.passes import STEP, Passes
from bitproof.core.spec import Spec
from bitproof.core.types import Count
from bitproof.quant.adaround import AdaRound
from bitproof.quant.quantizer import PRESETS, QUANTIZERS, RQUANT, AffineQuantizer, Quantizer

AnyQuantizer = Annotated[SerializeAsAny[Quantizer], BeforeValidator(QUANTIZERS.validate)]

ACCURATE = "accurate"
"""The preset for networks that shall answer as they did in floats."""
PER_CHANNEL = AffineQuantizer(symmetric=True, signed=True, per_channel=True, margin=0.0)
"""Weights of that preset."""
CALIBRATED = 4
"""Passes of each calibration image: for ranges, and to compare with floats."""
LATER = ("vector_bits", "equalize", "adaround", "bias_correction")
"""Fields that version 1 of recipes did not start with."""


class Scheme(Spec):
    """Quantizers of weights, biases and activations, and how activation ranges are found.

    Activations get one grid per tensor, with zero on the grid. The logits stay at accumulator
    width. `Scheme("accurate")` has symmetric weights with one grid per output channel, int32
    biases, activation ranges of least relative error, and 16-bit words where no multiplier reads
    them; `Scheme("rquant")`, which is also the
    default, is robust quantization as published. Quantizers of `PRESETS` are named likewise.

    `Scheme(bits=4)` has 4-bit words everywhere: weights, biases and activations (`bias=None` beside
    it keeps biases as int32). Beside a preset, `bits` is the width of the preset's quantizers
    alone: of weights, and of biases that are no int32 words; activations have `activation_bits`.

    Example:
        >>> scheme = Scheme(bits=4)
        >>> scheme.weight.bits, scheme.bias.bits, scheme.activation_bits
        (4, 4, 4)
        >>> Scheme("accurate").bias is None, Scheme("rquant") == Scheme()
        (True, True)
        >>> Scheme("accurate", bits=4).weight.bits
        4
    """

    weight: AnyQuantizer = RQUANT
    """Weights of convolutions, linear layers and norms, and constants of the model."""
    bias: AnyQuantizer | None = RQUANT
    """Biases. None keeps them as int32 words on the accumulator's own grid."""
    activation_bits: Literal[2, 3, 4, 5, 6, 7, 8] = 8
    """Word width of every activation, in bits."""
    vector_bits: Literal[16] | None = None
    """Word width of activations that only sums, norms and softmaxes read, and no multiplier: the
    residual stream of a transformer and its attention scores. None: `activation_bits`."""
    activation_symmetric: bool = False
    """Zero in the middle of the activation range, instead of where the data put it."""
    activation_signed: bool = False
    """Two's complement activation words, instead of unsigned ones."""
    activation_rounding: Literal["nearest", "truncate"] = "nearest"
    """How accumulators become activation words."""
    calibration: Literal["min_max", "percentile", "mse", "relative_mse"] = "percentile"
    """Rule for the range of an activation, on the calibration images: all of it, a share of the
    values, the bound of least squared error, or the same with each image's error relative to its
    own power, where a few images have huge activations."""
    percentile: Annotated[float, Field(gt=50.0, le=100.0)] = 99.99
    """Share of values, per cent, that do not exceed the range, on either side; for `percentile`."""
    calibration_images: Count = 1024
    """Images, from the training set, that ranges are measured on."""
    equalize: bool = False
    """Share out the ranges of neighbouring layers by channel before weights are quantized (Nagel et
    al. 2019), which one grid for all channels needs most. Of a finished network: training on words
    passes over it, as over the next two."""
    adaround: AdaRound | None = None
    """Learn whether each weight is rounded up or down; None: round to nearest."""
    bias_correction: bool = False
    """Let biases absorb the mean error of each channel, last of all."""

    def __init__(self, named: str | None = None, /, **fields: Any) -> None:
        """Build from fields, or from a preset by its name and other fields."""
        super().__init__(**({} if named is None else {"preset": named}), **fields)

    @model_validator(mode="before")
    @classmethod
    def _read_preset(cls, table: Any) -> Any:
        """Put fields in the place of `preset`, and of the `bits` of its quantizers."""
        if not isinstance(table, dict) or not {"preset", "bits"} & table.keys():
            return table
        if "preset" not in table:
            return cls._of_width(table)
        rest = {name: value for name, value in table.items() if name not in {"preset", "bits"}}
        name, names = table["preset"], [*PRESETS, ACCURATE]
        if not isinstance(name, str) or name not in names:
            raise ValueError(f"no preset {shorten(name)}. {near(str(name), names)}")
        for kind in ("weight", "bias"):
            if kind in rest:
                raise ValueError(f"preset: wanted it, or '{kind}', got both")
        quantizer = PER_CHANNEL if name == ACCURATE else PRESETS[name]
        weight = {**quantizer.model_dump(), "bits": table.get("bits", 8)}
        if name == ACCURATE:
            fine = {"calibration": "relative_mse", "vector_bits": 16}
            return {**fine, **rest, "weight": weight, "bias": None}
        return {**rest, "weight": weight, "bias": weight}

    @classmethod
    def _of_width(cls, table: dict[str, Any]) -> dict[str, Any]:
        """Put the width of all words in the place of `bits`."""
        rest, bits = {name: value for name, value in table.items() if name != "bits"}, table["bits"]
        if type(bits) is not int or not 2 <= bits <= 8:
            raise ValueError(f"bits: wanted a width from 2 to 8, got {shorten(bits)}")
        if "weight" in rest:
            raise ValueError("bits: wanted it, or 'weight', got both")
        words = {**RQUANT.model_dump(), "bits": bits}
        return {"activation_bits": bits, "bias": words, **rest, "weight": words}

    @model_serializer(mode="wrap")
    def _leave_out_later_fields(self, dump: Callable[[Any], Any]) -> dict[str, Any]:
        """Return a table that says what earlier versions said, where later fields change nothing.

        Digests of recipes are those of such tables.
        """
        table: dict[str, Any] = dump(self)
        for name in LATER:
            if getattr(self, name) == type(self).model_fields[name].default:
                table.pop(name, None)
        return table

    def passes(self, images: int) -> Passes:
        """Return what quantizing a network takes, of a training set of so many images."""
        calibrated = Passes(CALIBRATED * min(self.calibration_images, images))
        if self.adaround is None:
            return calibrated
        return calibrated + self.adaround.steps * self.adaround.batch_size * STEP

    def activation(self) -> AffineQuantizer:
        """Return the quantizer of the activations."""
        return AffineQuantizer(
            bits=self.activation_bits,
            symmetric=self.activation_symmetric,
            signed=self.activation_signed,
            rounding=self.activation_rounding,
            narrow=self.activation_symmetric,
            margin=0.0,
        )
