"""Rules that turn one traced call into nodes of the graph, and the tables that find them.

To support another layer, add a rule here: it gets the call and returns the `Ref` of the result. A
function has one name, whoever captured it; where torch's operator takes other arguments than the
function of its name, it has an entry of its own in `OPERATOR_RULES`.
"""

from typing import Any

from torch import nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.models.norms import ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.quant.builder import Call, Rule
from bitproof.quant.rules import (
    attention,
    elementwise,
    indexing,
    layers,
    masks,
    norms,
    padding,
    recurrent,
    reductions,
    reshaping,
    windows,
)
from bitproof.quant.rules.elementwise import LOOKUPS, UNARY, binary, clamp, table
from bitproof.quant.rules.pooling import adaptive, avg_pool, max_pool, with_none
from bitproof.quant.rules.resampling import interpolation, matrix_over_axis, running_sums

__all__ = ["FUNCTION_RULES", "MODULE_RULES", "OPERATOR_RULES", "operator_rule"]


def unchanged(call: Call, layer: Any = None) -> Any:  # noqa: ARG001
    """Return the input; numbers stay floats, tokens stay tokens."""
    if not call.value.is_floating_point() and call.x.name not in call.builder.tokens:
        raise TraceError(f"{call.path}: no rule to turn numbers into {call.value.dtype}")
    return call.x


def _each(rule: Rule, *kinds: Any) -> dict[Any, Rule]:
    return dict.fromkeys(kinds, rule)


MODULE_RULES: dict[type[nn.Module], Rule] = {
    **_each(layers.convolution, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    **_each(
        layers.transposed_convolution, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
    ),
    **_each(layers.linear, nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear),
    nn.Embedding: layers.embedding,
    **_each(
        norms.batch_norm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, ScaledBatchNorm2d
    ),
    Normalize: norms.normalize,
    nn.LayerNorm: norms.layer_norm,
    nn.RMSNorm: norms.rms_norm,
    nn.GroupNorm: norms.group_norm,
    ScaledGroupNorm: norms.scaled_group_norm,
    **_each(
        norms.instance_norm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d
    ),
    nn.ReLU: clamp(min=0.0),
    nn.ReLU6: clamp(min=0.0, max=6.0),
    nn.Hardtanh: elementwise.hardtanh,
    nn.Threshold: elementwise.threshold,
    nn.PReLU: elementwise.prelu,
    nn.RReLU: elementwise.randomized_leaky_relu,
    nn.GLU: elementwise.gated("sigmoid"),
    **{layer: table(*lookup) for layer, lookup in LOOKUPS.items()},
    nn.Softmax: attention.softmax,
    nn.LogSoftmax: attention.log_softmax,
    nn.Softmin: attention.softmin,
    nn.Softmax2d: attention.softmax_2d,
    **_each(max_pool, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    **_each(avg_pool, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    **_each(
        adaptive(largest=False),
        nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    ),
    **_each(
        adaptive(largest=True),
        nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    ),
    **_each(lambda call, _: reshaping.reshape(call), nn.Flatten, nn.Unflatten),
    **_each(
        padding.pad,
        nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
        nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
        nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
        nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
        nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
    ),
    nn.PixelShuffle: reshaping.shuffle(up=True),
    nn.PixelUnshuffle: reshaping.shuffle(up=False),
    nn.ChannelShuffle: reshaping.channel_shuffle,
    nn.Unfold: windows.image_to_columns,
    **_each(
        unchanged, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
        nn.FeatureAlphaDropout, nn.Identity,
    ),
    **recurrent.LAYERS,
    nn.MultiheadAttention: attention.multihead_attention,
    nn.TransformerEncoderLayer: attention.encoder_layer,
    nn.TransformerEncoder: attention.encoder,
}  # fmt: skip
"""Rule of each layer class; subclasses are traced into."""

FUNCTION_RULES: dict[str, Rule] = {
    "relu": clamp(min=0.0),
    "relu6": clamp(min=0.0, max=6.0),
    "hardtanh": elementwise.hardtanh,
    **_each(table("clamp", "min", "max"), "clamp", "clip"),
    "clamp_min": table("clamp", "min"),
    "clamp_max": table("clamp", "max"),
    "threshold": elementwise.threshold,
    "log_sigmoid": table("logsigmoid"),
    **{name: table(name, *names) for name, *names in LOOKUPS.values()},
    **{name: table(name) for name in UNARY},
    "prelu": elementwise.prelu,
    "rrelu": elementwise.randomized_leaky_relu,
    "glu": elementwise.gated("sigmoid"),
    **_each(elementwise.power, "pow", "float_power"),
    **_each(lambda call: elementwise.with_number(call, call.x, "mul", -1.0), "neg", "negative"),
    **{op: binary(op) for op in ("add", "sub", "mul", "maximum", "minimum")},
    **_each(binary("mul"), "multiply"),
    "subtract": binary("sub"),
    "rsub": elementwise.reversed_difference,
    **_each(elementwise.divide, "div", "truediv", "true_divide", "divide"),
    "addcmul": elementwise.product_and_sum("mul"),
    "addcdiv": elementwise.product_and_sum("div"),
    "where": masks.where,
    "masked_fill": masks.masked_fill,
    "normalize": norms.functional_normalize,
    **_each(reshaping.concat, "cat", "concat", "concatenate"),
    **_each(layers.matmul, "matmul", "bmm", "mm"),
    "addmm": layers.addmm,
    "embedding": layers.embedding,
    "mean": reductions.mean,
    "sum": reductions.total,
    "amax": reductions.extreme("amax"),
    "amin": reductions.extreme("amin"),
    "max": reductions.extreme_or_elementwise("amax", "maximum"),
    "min": reductions.extreme_or_elementwise("amin", "minimum"),
    **_each(reductions.length, "norm", "linalg_vector_norm"),
    "var": reductions.spread(squared=True),
    "std": reductions.spread(squared=False),
    "cumsum": matrix_over_axis(running_sums),
    "softmax": attention.softmax,
    "log_softmax": attention.log_softmax,
    "softmin": attention.softmin,
    "scaled_dot_product_attention": attention.scaled_dot_product_attention,
    **_each(
        reshaping.reshape, "flatten", "reshape", "reshape_as", "view", "view_as", "unsafe_view",
        "squeeze", "unsqueeze", "unflatten", "ravel",
    ),
    **_each(reshaping.expand, "expand", "expand_as", "broadcast_to"),
    **_each(reshaping.transpose, "transpose", "swapaxes", "swapdims"),
    **_each(reshaping.turn, "t", "adjoint"),
    "getattr": reshaping.attribute,
    **_each(reshaping.movedim, "movedim", "moveaxis"),
    **_each(
        indexing.split, "chunk", "split", "split_with_sizes", "tensor_split", "unsafe_split",
        "unsafe_chunk", "unsafe_split_with_sizes",
    ),
    "getitem": indexing.getitem,
    "select": indexing.select,
    "narrow": indexing.narrow,
    "index_select": indexing.index_select,
    "flip": indexing.flip,
    "pad": padding.pad,
    "permute": reshaping.permute,
    **_each(reshaping.repeat, "repeat", "tile"),
    "repeat_interleave": indexing.repeat_interleave,
    "roll": indexing.roll,
    "stack": reshaping.stack,
    "unbind": indexing.unbind,
    "pixel_shuffle": reshaping.shuffle(up=True),
    "pixel_unshuffle": reshaping.shuffle(up=False),
    **_each(reshaping.channel_shuffle, "channel_shuffle", "native_channel_shuffle"),
    **_each(max_pool, "max_pool1d", "max_pool2d", "max_pool3d"),
    **_each(avg_pool, "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    **_each(
        adaptive(largest=False), "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"
    ),
    **_each(
        adaptive(largest=True), "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"
    ),
    **_each(
        elementwise.functional_dropout, "dropout", "dropout1d", "dropout2d", "dropout3d",
        "alpha_dropout", "feature_alpha_dropout", "feature_dropout",
    ),
    "stochastic_depth": elementwise.stochastic_depth,
    **_each(
        unchanged, "contiguous", "clone", "detach", "float", "to", "type_as", "alias",
        "lift_fresh_copy",
    ),
    **_each(layers.convolution, "conv1d", "conv2d", "conv3d"),
    **_each(
        layers.transposed_convolution, "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"
    ),
    "linear": layers.linear,
    "batch_norm": norms.functional_batch_norm(
        "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
    ),
    "layer_norm": norms.layer_norm,
    "rms_norm": norms.rms_norm,
    "group_norm": norms.group_norm,
    **recurrent.FUNCTIONS,
}  # fmt: skip
"""Rule of each function, method or operator, by name; in-place forms share it."""

_STATISTICS = ("weight", "bias", "running_mean", "running_var")

OPERATOR_RULES: dict[str, Rule] = {
    "convolution": layers.general_convolution,
    "embedding": layers.operator_embedding,
    "batch_norm": norms.functional_batch_norm(*_STATISTICS, "training", "momentum", "eps"),
    "_native_batch_norm_legit_no_training": norms.first_of(
        norms.functional_batch_norm(*_STATISTICS, "momentum", "eps")
    ),
    "instance_norm": norms.instance_norm,
    "native_layer_norm": norms.first_of(norms.layer_norm),
    "native_group_norm": norms.native_group_norm,
    "_softmax": attention.softmax,
    "_log_softmax": attention.log_softmax,
    "_to_copy": unchanged,
    "_unsafe_view": reshaping.reshape,
    "index": indexing.index,
    "slice": indexing.operator_slice,
    "unfold": windows.unfold,
    "copy": reshaping.copied,
    "fill": reshaping.filled,
    **_each(indexing.scatter, "select_scatter", "slice_scatter"),
    "im2col": windows.image_to_columns,
    "col2im": windows.columns_to_image,
    **_each(with_none(max_pool), "max_pool2d_with_indices", "max_pool3d_with_indices"),
    **{f"_adaptive_avg_pool{d}d": adaptive(largest=False) for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": with_none(adaptive(largest=True)) for d in (1, 2, 3)},
    **{
        f"upsample_{kind}{axes}": interpolation(kind)
        for kind, axes in (
            ("nearest", "1d"), ("nearest", "2d"), ("nearest", "3d"),
            ("linear", "1d"), ("bilinear", "2d"), ("trilinear", "3d"), ("bicubic", "2d"),
        )
    },
    **{f"_upsample_nearest_exact{d}d": interpolation("nearest_exact") for d in (1, 2, 3)},
    "_upsample_bilinear2d_aa": interpolation("bilinear_aa"),
    "_upsample_bicubic2d_aa": interpolation("bicubic_aa"),
}  # fmt: skip
"""Rule of torch's operators that take other arguments than a function of their name."""


def operator_rule(target: Any) -> Rule | None:
    """Return the rule of what torch.export calls; None: it has none."""
    name = getattr(target, "_opname", None)
    if name is None:
        return FUNCTION_RULES.get(getattr(target, "__name__", ""))
    plain = name.strip("_")
    known = OPERATOR_RULES.get(name) or OPERATOR_RULES.get(name.rstrip("_"))
    return known or FUNCTION_RULES.get(plain)
