"""The experiment as one validated object."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from bitproof.approx import AnyMultiplier
from bitproof.core.errors import near, shorten
from bitproof.core.spec import NONE, Spec
from bitproof.core.types import Seed
from bitproof.data import AUGMENT, DATA, Augmentation, DataSource
from bitproof.evaluation import Evaluation
from bitproof.exchange import is_onnx
from bitproof.harden import HARDEN, Approximate, HardeningStage, Requantize
from bitproof.metrics import AnyTask
from bitproof.models import MODELS, ModelSpec
from bitproof.quant.scheme import Scheme
from bitproof.train import Optimization


def _model(table: object) -> ModelSpec:
    """Build a model from its table; strings are `timm:NAME`, `package.module:factory`, files."""
    if isinstance(table, str) and table.startswith("timm:"):
        table = {"kind": "timm", "name": table.removeprefix("timm:")}
    elif isinstance(table, str) and is_onnx(table):
        table = {"kind": "onnx", "file": table}
    elif isinstance(table, str) and ":" in table:
        table = {"kind": "factory", "factory": table}
    return MODELS.validate(table)


Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)]
StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
MultiplierName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
AnyData = Annotated[SerializeAsAny[DataSource], BeforeValidator(DATA.validate)]
AnyModel = Annotated[SerializeAsAny[ModelSpec], BeforeValidator(_model)]
AnyStage = Annotated[SerializeAsAny[HardeningStage], BeforeValidator(HARDEN.validate)]
AnyAugmentation = Annotated[SerializeAsAny[Augmentation], BeforeValidator(AUGMENT.validate)]

MOST_VARIANTS = 1000
LONGEST_VARIANT = 200
EACH = "*"
"""Stands, in a variant, for each multiplier of the recipe."""
FLOAT, BASELINE = "float", "baseline"
"""Variants without hardening: the float network, and the same quantized."""


class NamedRecipe(Spec):
    """What every recipe begins with."""

    recipe: Literal[1] = 1
    """Version of the recipe format."""
    name: Name
    """Short name, for directories: letters, digits, `_`, `.`, `+`, `-`."""
    title: str = ""
    """One line for the report."""
    source: str = ""
    """Whose numbers the recipe reproduces."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields with their defaults as plain values, "none" for those that are None."""
        table: dict[str, Any] = without_null(self.model_dump(mode="json"))
        return table


class NetworkRecipe(NamedRecipe):
    """A recipe of work on one integer network: a model that is quantized, or a stored one."""

    seed: Seed = 0
    """Root of initial weights, where there are none to load, and of training."""
    data: AnyData
    """Images."""
    model: AnyModel | None = None
    """Architecture, which is quantized; none needs `network`."""
    weights: str = ""
    """Its weights, as in other recipes; `pretrained` for the published ones."""
    quantization: Scheme = Scheme()
    """How the model is quantized."""
    network: str = ""
    """An integer network instead, such as `runs/NAME/networks/s1`; relative to the recipe's folder
    or to the working directory."""

    @model_validator(mode="after")
    def _check_one_network(self) -> "NetworkRecipe":
        if (self.model is None) == (not self.network):
            raise ValueError("wanted one of 'model' and 'network'")
        return self


class Recipe(NamedRecipe):
    """Everything that decides the result of a run, and nothing else."""

    seed: Seed = 0
    """Root of initial weights and of training."""
    data: AnyData
    """Images."""
    model: AnyModel
    """Architecture: a kind with its parameters, `package.module:factory`, `timm:NAME`, or
    `file.onnx`, which has its weights."""
    weights: str = ""
    """Weights to start from: safetensors, npz or state dict; relative to the recipe's folder or
    to the data folder. `pretrained`: the published ones of the data folder. Empty: at random."""
    train: Optimization | None = None
    """Float training before everything else; none needs `weights`."""
    augmentation: Annotated[tuple[AnyAugmentation, ...], Field(max_length=100)] = ()
    """Random changes of training images, in all training."""
    quantization: Scheme = Scheme()
    """How networks are put on integers."""
    stages: dict[StageName, AnyStage] = Field(default_factory=dict, max_length=MOST_VARIANTS)
    """Hardening stages, by the name that variants use."""
    multipliers: dict[MultiplierName, AnyMultiplier] = Field(
        default_factory=dict, max_length=MOST_VARIANTS
    )
    """Approximate multipliers, by the name that variants use: a stage that puts all products of
    the network on them."""
    variants: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_VARIANTS)] = (
        FLOAT,
        BASELINE,
    )
    """Networks to measure: `float`, `baseline`, and names of stages or multipliers joined by `+` in
    order. A `*` stands for each multiplier in turn: `s1+*+retrain`."""
    task: AnyTask | None = None
    """How answers are judged: a kind, or a table with its parameters. None: as outputs and labels
    ask for."""
    evaluation: Evaluation = Evaluation()
    """What is measured on each."""

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: dict[str, Any]) -> dict[str, Any]:
        for name in (FLOAT, BASELINE):
            if name in stages:
                raise ValueError(
                    f"wanted another name for stage {shorten(name)}: it names a variant"
                )
        return stages

    @field_validator("multipliers")
    @classmethod
    def _check_multipliers(cls, multipliers: dict[str, Any], info: Any) -> dict[str, Any]:
        for name in (FLOAT, BASELINE, *info.data.get("stages", ())):
            if name in multipliers:
                raise ValueError(f"wanted another name for multiplier {shorten(name)}: it is taken")
        return multipliers

    @field_validator("variants")
    @classmethod
    def _check_variants(cls, variants: tuple[str, ...], info: Any) -> tuple[str, ...]:
        if not {"stages", "multipliers"} <= info.data.keys():
            return variants
        variants = tuple(_each(variants, list(info.data["multipliers"])))
        if len(variants) > MOST_VARIANTS:
            raise ValueError(f"wanted at most {MOST_VARIANTS} networks, got {len(variants)}")
        if len(longest := max(variants, key=len)) > LONGEST_VARIANT:
            raise ValueError(
                f"wanted at most {LONGEST_VARIANT} letters, as files have that name, "
                f"got {len(longest)}: {shorten(longest)}"
            )
        stages: list[str] = [*info.data["stages"], *info.data["multipliers"]]
        for variant in variants:
            for stage in stages_of(variant):
                if stage not in stages:
                    known = near(stage, stages if "+" in variant else [FLOAT, BASELINE, *stages])
                    raise ValueError(f"no stage {shorten(stage)} in {shorten(variant)}. {known}")
        if len(set(variants)) < len(variants):
            raise ValueError("wanted each once")
        return variants

    @model_validator(mode="after")
    def _check_start(self) -> "Recipe":
        if not (self.train or self.weights or self.model.brings_weights or self._trains_all()):
            raise ValueError(
                "wanted 'weights', or a table 'train', or both, or variants that all begin with a "
                "stage that trains from random weights; none came"
            )
        return self

    @property
    def starts_bare(self) -> bool:
        """Whether networks are measured that have no other weights than the model is made with."""
        return not (self.train or self.weights or self._trains_all())

    def _trains_all(self) -> bool:
        """Return whether no variant needs weights to start from."""
        first = [next(iter(stages_of(variant)), None) for variant in self.variants]
        return all(name and self.stage(name).trains_from_scratch for name in first)

    @property
    def baseline(self) -> str:
        """The variant that others are compared with: the quantized network without hardening.

        Where that is not measured under its own name, it is the first that is only quantized.
        """
        plain = [name for name in self.variants if isinstance(self.stages.get(name), Requantize)]
        return BASELINE if BASELINE in self.variants or not plain else plain[0]

    def stage(self, name: str) -> HardeningStage:
        """Return the stage of that name; a multiplier is one as well."""
        if name in self.multipliers:
            return Approximate(multiplier=self.multipliers[name])
        return self.stages[name]


def _each(variants: tuple[str, ...], multipliers: list[str]) -> Iterator[str]:
    """Yield variants, those with a star once for each multiplier."""
    for variant in variants:
        if EACH not in variant.split("+"):
            yield variant
        elif not multipliers:
            raise ValueError(f"wanted multipliers for {shorten(variant)}, there are none")
        for name in multipliers if EACH in variant.split("+") else ():
            yield "+".join(name if part == EACH else part for part in variant.split("+"))


def without_null(value: Any) -> Any:
    """Return plain values with the word that `Spec` reads as None in its place."""
    if isinstance(value, dict):
        return {name: without_null(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_null(part) for part in value]
    return NONE if value is None else value


def stages_of(variant: str) -> list[str]:
    """Return the stages of a variant, in order.

    Example:
        >>> stages_of("s1+s2"), stages_of("baseline")
        (['s1', 's2'], [])
    """
    return [] if variant in {FLOAT, BASELINE} else variant.split("+")
