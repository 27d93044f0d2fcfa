"""Public model families, as their authors wrote them; each entry is built when it is needed."""

from public_models.cifar import CIFAR
from public_models.classics import CLASSICS
from public_models.dense import DENSE
from public_models.entry import Entry
from public_models.sequences import SEQUENCES
from public_models.sound_and_signals import SOUND_AND_SIGNALS
from public_models.timm_models import TIMM
from public_models.transformers_models import TRANSFORMERS
from public_models.vit_pytorch_models import VIT_PYTORCH

OURS = [*CIFAR, *CLASSICS, *SOUND_AND_SIGNALS, *DENSE, *SEQUENCES]
MODELS: list[Entry] = [*OURS, *TRANSFORMERS, *VIT_PYTORCH, *TIMM]
