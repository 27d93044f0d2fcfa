"""The terms of a page and what they mean: a page links each where it is used."""

from collections.abc import Iterable, Mapping

Glossary = dict[str, tuple[str, str]]
"""Key of an anchor: term and meaning."""

_TERMS: Glossary = {
    "ber": (
        "BER",
        "Bit error rate: the probability that one stored bit is flipped. At 10⁻³, one bit in a "
        "thousand reads wrongly.",
    ),
    "chip": (
        "Chip",
        "One fixed random draw of weak memory cells. A cell that fails at a low rate fails at "
        "every higher one, as on real silicon when its voltage drops.",
    ),
    "baseline": (
        "Baseline",
        "The network quantized as it is, without a stage that hardens it: what the others are "
        "compared with.",
    ),
    "int8": (
        "int8",
        "Numbers stored as 8-bit integers with a scale for each tensor, as the memory of an "
        "accelerator holds them. Bit flips hit these integers.",
    ),
    "epsilon": (
        "ε (epsilon)",
        "How far an attacker may change the input. For L∞, the most any one pixel may change, "
        "where pixels range from 0 to 1; 8/255 is eight grey levels.",
    ),
    "pgd": (
        "PGD",
        "Projected gradient descent: an attack that knows the network and searches, step by step, "
        "for the change within ε that misleads it most.",
    ),
    "masking": (
        "Gradient masking",
        "Gradients that point nowhere, so that an attack fails although the network is not robust.",
    ),
    "point": ("Point", "Percentage point, the difference of two accuracies in per cent."),
    "paired": (
        "Paired difference",
        "The difference of two networks on the same chips and images, taken chip by chip, or image "
        "by image. What both have in common cancels, so its interval is shorter than that of two "
        "separate measurements.",
    ),
    "interval": (
        "95 % interval",
        "Range that covers the true value in about 95 of 100 repetitions of the measurement.",
    ),
    "auc": (
        "AUC",
        "Mean accuracy over the measured range of bit error rates, on a logarithmic scale.",
    ),
    "worst": (
        "Worst case",
        "The lowest accuracy of a network under several threats, each at one level. Only threats "
        "that every network met count, so that worst cases compare.",
    ),
    "power": (
        "Power share",
        "Power of the multiplier of a network as a share of that of the exact circuit, by counting "
        "gates and their activity (unit-gate model).",
    ),
    "front": (
        "Pareto front",
        "The networks that no other one beats in everything that is compared.",
    ),
    "med": (
        "MED",
        "Mean error distance of products over all pairs of operands; NMED: as a share of the "
        "largest product.",
    ),
    "mred": (
        "MRED",
        "Mean relative error distance of products, over all pairs of operands with a product that "
        "is not 0.",
    ),
    "ep": ("EP", "Error probability: the share of all products that are wrong."),
    "ecc": (
        "ECC",
        "Error-correcting code: check bits beside the words of a memory. SECDED corrects one wrong "
        "bit of a code word and detects two; more may pass for something else.",
    ),
    "masked": ("Masked", "The logits are those of the fault-free run, bit for bit."),
    "sdc": (
        "SDC",
        "Silent data corruption: the output is wrong and nothing tells so. All kinds compare with "
        "the answer of the fault-free run, not with the label (Li et al., Understanding Error "
        "Propagation in Deep Learning Neural Network (DNN) Accelerators and Applications, SC "
        "2017).",
    ),
    "sdc-1": ("SDC-1", "Another class is first than without the fault."),
    "due": (
        "DUE",
        "Detected, unrecoverable error: an output is NaN or infinite, or a protection found an "
        "error that it could not correct.",
    ),
    "fault": (
        "Fault, trial",
        "A fault is what breaks: here, bits of stored words or of registers. A trial is one draw "
        "of faults, met by all images.",
    ),
    "fvf": (
        "FVF",
        "Fault vulnerability factor: the probability that a fault at a site gives a wrong output, "
        "here SDC-1 (after the architectural vulnerability factor, AVF).",
    ),
    "fit": (
        "FIT",
        "Failures in 10⁹ hours: the raw rate of faults in a memory, times its size, times SDC-1, "
        "summed over memories.",
    ),
    "sample": (
        "Sample size",
        "n = N / (1 + e² (N − 1) / (t² p (1 − p))) of N possible faults, for a margin e and p = "
        "0.5 (Leveugle et al., Statistical Fault Injection: Quantified Error and Confidence, DATE "
        "2009).",
    ),
    "unit": (
        "Unit",
        "What chooses: a layer, or one of its filters (an output channel of a convolution, a "
        "neuron of a linear layer). A choice gives each unit a multiplier.",
    ),
    "score": (
        "Score",
        "Expected harm of a multiplier in a unit; scores of units add up, so that any choice is "
        "scored without running it (HAWX, arXiv 2602.16336).",
    ),
    "cost": (
        "Cost",
        "Weighted sum of the figures that the search minimizes, relative to exact products.",
    ),
    "spatial": (
        "Spatial, temporal",
        "An accelerator with multipliers of its own for each layer, or one array that all layers "
        "share; there, each kind of multiplier costs area once.",
    ),
    "hypervolume": (
        "Hypervolume",
        "Area between a front and the corner of exact products' cost and of guessing; 1 would cost "
        "nothing and be always right.",
    ),
    "sqnr": (
        "SQNR",
        "Signal-to-quantization-noise ratio: signal over error, sums of squares, in dB; 6 dB are "
        "one bit.",
    ),
}


def terms(keys: Iterable[str], changed: Mapping[str, tuple[str, str]] | None = None) -> Glossary:
    """Return some terms in this order, with meanings that a page knows better.

    Example:
        >>> terms(["point"])["point"][0]
        'Point'
    """
    known = {**_TERMS, **(changed or {})}
    return {key: known[key] for key in keys}
