"""What flows through a model, as the `forward` methods here declare it.

While `torch.fx` traces a model, a `Proxy` takes the place of every tensor, and the runtime check
has to let it pass; for readers and mypy these are plain tensors. Shapes stand in prose, because
`torch.fx` copies annotations into the code it writes, and can only pickle names it can import.
"""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.fx import Proxy

if TYPE_CHECKING:
    Images = Tensor
    Maps = Tensor
    Logits = Tensor
    Scale = Tensor
else:
    Images = Tensor | Proxy
    """A batch of images, or of feature maps that enter a block: `n c h w`."""
    Maps = Tensor | Proxy
    """Feature maps that leave a block, with other channels and another size: `n d i j`."""
    Logits = Tensor | Proxy
    """One score per class: `n k`."""
    Scale = Tensor | Proxy
    """One factor per channel of a norm: `c`."""
