"""From a float ONNX graph to a torch module: rules by operator, and the table of them.

To support another operator, add a rule here: it gets the module under way, the node and its
operands, and appends a layer or a call.
"""

import torch
from torch import nn

from bitproof.exchange.float_onnx import (
    elementwise,
    functions,
    indexing,
    layers,
    norms,
    padding,
    pooling,
    resampling,
    reshaping,
)
from bitproof.exchange.float_onnx.functions import activation, alpha, function
from bitproof.exchange.float_onnx.graph import Rule, build_module

__all__ = ["RULES", "build_module"]

RULES: dict[str, Rule] = {
    "Conv": layers.convolution,
    "ConvTranspose": layers.transposed_convolution,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "BatchNormalization": norms.batch_norm,
    "InstanceNormalization": norms.instance_norm,
    "LayerNormalization": norms.layer_norm,
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    **dict.fromkeys(
        (
            *("GlobalAveragePool", "GlobalMaxPool"),
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"),
        ),
        pooling.reduction,
    ),
    "Relu": activation(lambda _: nn.ReLU()),
    "Sigmoid": activation(lambda _: nn.Sigmoid()),
    "Tanh": activation(lambda _: nn.Tanh()),
    "HardSwish": activation(lambda _: nn.Hardswish()),
    "HardSigmoid": functions.hard_sigmoid,
    "LeakyRelu": activation(lambda node: nn.LeakyReLU(alpha(node, 0.01))),
    "Elu": activation(lambda node: nn.ELU(alpha(node, 1.0))),
    "Celu": activation(lambda node: nn.CELU(alpha(node, 1.0))),
    "Gelu": activation(lambda node: nn.GELU(str(node.attrs.get("approximate", "none")))),
    "Softplus": activation(lambda _: nn.Softplus()),
    "Softsign": activation(lambda _: nn.Softsign()),
    "Mish": activation(lambda _: nn.Mish()),
    "Clip": functions.clip,
    "Erf": function(torch.erf),
    "Exp": function(torch.exp),
    "Log": function(torch.log),
    "Sqrt": function(torch.sqrt),
    "Abs": function(torch.abs),
    "Neg": function(torch.neg),
    "Reciprocal": function(torch.reciprocal),
    **dict.fromkeys(elementwise.FUNCTIONS, elementwise.binary),
    "Concat": indexing.concat,
    "Reshape": reshaping.reshape,
    "Flatten": reshaping.flatten,
    "Squeeze": reshaping.squeeze,
    "Unsqueeze": reshaping.unsqueeze,
    "Transpose": reshaping.transpose,
    "Slice": indexing.slices,
    "Split": indexing.split,
    "Gather": indexing.gather,
    "Expand": reshaping.expand,
    "Pad": padding.pad,
    "Softmax": norms.softmax,
    "LogSoftmax": norms.softmax,
    "Resize": resampling.resize,
    "Upsample": resampling.resize,
    "Cast": functions.cast,
    "Identity": functions.same,
    "Dropout": functions.same,
}
"""Every operator that has a form in torch."""
