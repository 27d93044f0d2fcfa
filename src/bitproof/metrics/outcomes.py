"""What a fault did to an answer: nothing, nothing visible, or silent data corruption.

Model:  an image is *masked* if its logits are those of the fault-free run, bit for bit. Otherwise
        SDC-1: another class is first than without the fault. SDC-5: the first class is not among
        the first five without the fault. SDC-10 %, SDC-20 %: the probability (softmax) of the
        class that was first without the fault moves by more than a tenth, a fifth, of what it was.
        DUE: a logit is NaN or infinite, or a protection found an error that it could not correct;
        then nothing is silent, and no SDC is counted. All compare with the fault-free answer, not
        with the label.
Source: Li et al., Understanding Error Propagation in Deep Learning Neural Network (DNN)
        Accelerators and Applications, SC 2017; METHODS C.3.
"""

from math import inf

from jaxtyping import Float, Int
from torch import Tensor, stack

OUTCOMES = ("masked", "sdc1", "sdc5", "sdc10", "sdc20", "due")
"""Outcomes in the order of the columns; SDC-5 implies SDC-1, SDC-20 % implies SDC-10 %."""


def outcomes(
    logits: Float[Tensor, "n k"], golden: Float[Tensor, "n k"], *, probabilities: bool = False
) -> Int[Tensor, "n outcomes"]:
    """Return 1 for every outcome that holds, in the order of `OUTCOMES`, image by image.

    `golden` are the finite logits of the same images without faults. A network that ends in a
    softmax gives `probabilities` instead, of which no softmax is taken again.

    Example:
        >>> import torch
        >>> golden = torch.tensor([[9.0, 1, 0, 0, 0, 0, 0], [2.0, 1, 0, 0, 0, 0, -1]])
        >>> faulty = torch.tensor([[9.0, 1, 0, 0, 0, 0, 0], [2.0, 1, 0, 0, 0, 0, 9]])
        >>> outcomes(faulty, golden).tolist()
        [[1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0]]
    """
    due = ~logits.isfinite().all(1)
    safe = logits.masked_fill(due[:, None], 0.0)
    masked = (logits == golden).all(1)
    top, was = safe.argmax(1), golden.argmax(1)
    # Stable, so that of equal logits the first counts, as for argmax; topk leaves it open.
    five = golden.argsort(dim=1, descending=True, stable=True)[:, :5]
    among = (five == top[:, None]).any(1)
    before, after = (
        (each.double() if probabilities else each.double().softmax(1)).gather(1, was[:, None])[:, 0]
        for each in (golden, safe)
    )
    moved = relative_move(after, before)
    silent = ~due & ~masked
    columns = [masked, top != was, ~among, moved > 0.1, moved > 0.2]
    return stack([columns[0], *(column & silent for column in columns[1:]), due], 1).int()


def relative_move(
    after: Float[Tensor, "*shape"], before: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return by how much numbers moved, in units of what they were; from 0, any move is endless.

    Example:
        >>> import torch
        >>> relative_move(torch.tensor([1.5, 0.0, 2.0]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([0.5000, 0.0000,    inf])
    """
    return ((after - before).abs() / before.abs()).nan_to_num(nan=0.0, posinf=inf)
