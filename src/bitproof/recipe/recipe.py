"""The experiment as one validated object."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from bitproof.campaign import Evaluation
from bitproof.core.spec import Spec
from bitproof.core.types import Seed
from bitproof.data import AUGMENT, DATA, Augmentation, DataSource
from bitproof.harden import HARDEN, HardeningStage
from bitproof.models import MODELS, ModelSpec
from bitproof.quant.scheme import Scheme
from bitproof.train import Optimization


def _model(table: object) -> ModelSpec:
    """Build a model from its table; a string with a colon names the user's own factory."""
    if isinstance(table, str) and ":" in table:
        table = {"kind": "factory", "factory": table}
    return MODELS.validate(table)


StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
AnyData = Annotated[SerializeAsAny[DataSource], BeforeValidator(DATA.validate)]
AnyModel = Annotated[SerializeAsAny[ModelSpec], BeforeValidator(_model)]
AnyStage = Annotated[SerializeAsAny[HardeningStage], BeforeValidator(HARDEN.validate)]
AnyAugmentation = Annotated[SerializeAsAny[Augmentation], BeforeValidator(AUGMENT.validate)]

FLOAT, PLAIN = "float", "none"
"""Variants without hardening: the float network, and the same on integers."""


class Recipe(Spec):
    """Everything that decides the result of a run, and nothing else."""

    recipe: Literal[1] = 1
    """Version of the recipe format."""
    name: Annotated[str, Field(min_length=1)]
    """Short name, for directories."""
    title: str = ""
    """One line for the report."""
    source: str = ""
    """Whose numbers the recipe reproduces."""
    seed: Seed = 0
    """Root of initial weights and of training."""
    data: AnyData
    """Images."""
    model: AnyModel
    """Architecture: a kind with its parameters, or `package.module:factory`."""
    weights: str = ""
    """Weights to start from: safetensors, npz or state dict; relative to the recipe's folder or
    to the data folder. Empty: start at random."""
    train: Optimization | None = None
    """Float training before everything else; none needs `weights`."""
    augmentation: tuple[AnyAugmentation, ...] = ()
    """Random changes of training images, in all training."""
    quantization: Scheme = Scheme()
    """How networks are put on integers."""
    stages: dict[StageName, AnyStage] = Field(default_factory=dict)
    """Hardening stages, by the name that variants use."""
    variants: tuple[str, ...] = (FLOAT, PLAIN)
    """Networks to measure: `float`, `none`, and stage names joined by `+` in order."""
    evaluation: Evaluation = Evaluation()
    """What is measured on each."""

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.train is None and not self.weights:
            raise ValueError("wanted 'weights', or a table 'train', or both; neither came")
        known = [FLOAT, PLAIN, *self.stages]
        for variant in self.variants:
            for stage in stages_of(variant) or [variant]:
                if stage not in known:
                    raise ValueError(
                        f"variants: no stage '{stage}' in '{variant}'. Known: {', '.join(known)}."
                    )
        if len(set(self.variants)) < len(self.variants):
            raise ValueError("variants: wanted each once")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return all fields with their defaults as plain values; unset ones are left out."""
        return self.model_dump(mode="json", exclude_none=True)


def stages_of(variant: str) -> list[str]:
    """Return the stages of a variant, in order.

    Example:
        >>> stages_of("s1+s2"), stages_of("none")
        (['s1', 's2'], [])
    """
    return [] if variant in {FLOAT, PLAIN} else variant.split("+")
