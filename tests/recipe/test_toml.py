from pathlib import Path

import pytest

from bitproof.core.errors import RecipeError
from bitproof.recipe import Recipe, read_recipe, write_recipe
from bitproof.recipe.toml import parse_spec

TOY = Path(__file__).with_name("toy.toml")
HEAD = 'name = "x"\nmodel = "digits_cnn"\ndata = "digits"\n[train]\n'
"""Five lines with the newline at the end, so that what is added begins at line 5."""


def parse(text: str) -> Recipe:
    return parse_spec(text, Recipe, name="r.toml")


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    return str(caught.value).splitlines()


def test_a_short_recipe_is_completed_with_defaults(tmp_path: Path) -> None:
    recipe = parse(HEAD)
    write_recipe(recipe, tmp_path / "recipe.toml")
    text = (tmp_path / "recipe.toml").read_text()
    assert read_recipe(tmp_path / "recipe.toml") == recipe
    for line in ("batch_size = 128", 'max_norm = "none"', "[[evaluation.threats]]", "chips = 50"):
        assert line in text.splitlines()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    recipe = read_recipe(TOY)
    write_recipe(recipe, tmp_path / "recipe.toml")
    again = read_recipe(tmp_path / "recipe.toml")
    assert again == recipe
    assert again.digest() == recipe.digest()


ATTACKED = '[[evaluation.threats]]\nkind = "adversarial_examples"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epocs = 3", "r.toml:5: train.epocs: no such field. Did you mean 'epochs'?"),
        ('epochs = "3"', "r.toml:5: train.epochs: should be a valid integer, got '3'"),
        ("epochs = true", "r.toml:5: train.epochs: should be a valid integer, got True"),
        ("epochs = 0", "r.toml:5: train.epochs: should be greater than or equal to 1, got 0"),
        (
            "\nmomentum = 1.5",
            "r.toml:6: train.momentum: should be less than or equal to 1, got 1.5",
        ),
        (
            "learning_rate = nan",
            "r.toml:5: train.learning_rate: should be a finite number, got nan",
        ),
        (
            'schedule = "cosin"',
            "r.toml:5: train.schedule: should be 'cosine', 'one_cycle', 'cyclic', 'multi_step' or",
        ),
        (
            '[stages.s1]\nkind = "desensitise"',
            "r.toml:6: stages.s1: harden: no kind 'desensitise'. Did you mean 'desensitize'?",
        ),
        (
            '[stages]\ns1 = { kind = "adjust", bers = 1 }',
            "r.toml:6: stages.s1.bers: no such field. Did you mean 'ber'?",
        ),
        (
            '[stages.s1]\nkind = "desensitize"\noptimization = { epocs = 3 }',
            "r.toml:7: stages.s1.optimization.epocs: no such field. Did you mean 'epochs'?",
        ),
        (
            '[stages.s1]\nkind = "desensitize"\noptimization.epocs = 3',
            "r.toml:7: stages.s1.optimization.epocs: no such field. Did you mean 'epochs'?",
        ),
        (
            '[stages.s1]\nkind = "desensitize"\n[stages.s1.optimization]\nlearning_rat = 0.1',
            "r.toml:8: stages.s1.optimization.learning_rat: no such field. "
            "Did you mean 'learning_rate'?",
        ),
        (
            '[[augmentation]]\nkind = "flip"\n[[augmentation]]\nkind = "pad_crop"\npading = 4',
            "r.toml:9: augmentation.1.pading: no such field. Did you mean 'padding'?",
        ),
        (
            ATTACKED + 'attack = { kind = "linf_pgd", epsilon = 0.1, step = 3 }',
            "r.toml:7: evaluation.threats.0.attack.step: no such field. Did you mean 'steps'?",
        ),
        (
            ATTACKED + 'attack = { kind = "linf_pgd" }',
            "r.toml:7: evaluation.threats.0.attack.epsilon: wanted a value, none came",
        ),
        (
            ATTACKED + "levels = [\n  1e-3,\n  -2.0,\n]",
            "r.toml:9: evaluation.threats.0.levels.1: should be greater than 0, got -2.0",
        ),
        (
            ATTACKED + "levels = [1e-2, 1e-3]",
            "r.toml:7: evaluation.threats.0.levels: wanted rising levels, each once, got [0.01, 0",
        ),
        (
            '[[evaluation.threats]]\nkind = "memory_faults"\nlevels = [0.5, 2.0]',
            "r.toml:5: evaluation.threats.0: ber: should be less than or equal to 1, got 2.0",
        ),
        (
            '[quantization.weight]\nkind = "affine"\nsymetric = true',
            "r.toml:7: quantization.weight.symetric: no such field. Did you mean 'symmetric'?",
        ),
        ("[stages.S1]\nkind = 'adjust'", "r.toml:5: stages.S1: string should match pattern"),
        (
            "[stages.baseline]\nkind = 'adjust'",
            "r.toml:5: stages: wanted another name for stage 'baseline': it names a variant",
        ),
        ("nesterov = true\nmomentum = 0", "r.toml:4: train: nesterov: wanted a momentum above 0"),
    ],
)
def test_a_problem_is_told_with_its_line(text: str, problem: str) -> None:
    (told,) = problems(HEAD + text)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ('name = "x"\ndata = "digit"', "r.toml:2: data: no kind 'digit'. Did you mean 'digits'"),
        ('name = "x"\ndata = 3', "r.toml:2: data: wanted a table with 'kind', got 3. Known:"),
        ('\nname = "../x"\ndata = "digits"', "r.toml:2: name: string should match pattern"),
        ('name = ""\ndata = "digits"', "r.toml:1: name: string should match pattern"),
        ('data = "digits"', "r.toml:1: name: wanted a value, none came"),
        (
            'name = "x"\ndata = "digits"\nvariants = ["float", "s9"]',
            "r.toml:3: variants: no stage 's9' in 's9'. Known: baseline, float",
        ),
        (
            'name = "x"\ndata = "digits"\nvariants = ["none+none"]',
            "r.toml:3: variants: no stage 'none' in 'none+none'.",
        ),
        ('name = "x"\ndata = "digits"\nvariants = []', "r.toml:3: variants: tuple should have at"),
        (
            'name = "x"\ndata = "digits"\nvariants = ["baseline", "baseline"]',
            "r.toml:3: variants: wanted each once",
        ),
    ],
)
def test_a_problem_at_the_top_is_told_with_its_line(head: str, problem: str) -> None:
    (told,) = problems(f'{head}\nmodel = "digits_cnn"\nweights = "w.npz"\n')
    assert told.startswith(problem)


def test_a_network_has_to_come_from_somewhere() -> None:
    (told,) = problems('name = "x"\nmodel = "digits_cnn"\ndata = "digits"\n')
    assert told == (
        "r.toml:1: Recipe: wanted 'weights', or a table 'train', or both, or variants that all "
        "begin with a stage that trains from random weights; none came"
    )


def test_every_problem_is_told_in_the_order_of_lines() -> None:
    text = (
        'name = "x"\nseed = -1\nmodel = { kind = "digits_cn" }\ncolour = 3\n'
        '[data]\nkind = "digits"\ntrain_sise = 3\ntest_size = "a"\n[train]\nepocs = 3\n'
    )
    lines = problems(text)
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "7", "8", "10"]


@pytest.mark.parametrize(
    ("text", "line"),
    [('name = "x\nseed = 1', 1), ("a = 1\nb = = 2\n", 2), ("a = 1\na = 2\n", 2), ("a = [1,\n2", 2)],
)
def test_a_syntax_error_is_told_with_its_line(text: str, line: int) -> None:
    (told,) = problems(text)
    assert told.startswith(f"r.toml:{line}: not valid TOML: ")


@pytest.mark.parametrize(
    ("model", "kind"),
    [('"a.b:c"', "factory"), ('{ kind = "factory", factory = "a.b:c" }', "factory")],
)
def test_a_factory_is_a_model(model: str, kind: str) -> None:
    text = f'name = "x"\ndata = "digits"\nweights = "w.npz"\nmodel = {model}\n'
    assert parse(text).model.kind == kind


def test_a_factory_without_a_name_is_told_with_its_line() -> None:
    (told,) = problems('name = "x"\ndata = "digits"\nweights = "w"\nmodel = "a.b:"\n')
    assert told.startswith("r.toml:4: model.factory: string should match pattern")


def test_the_word_none_switches_a_bound_off() -> None:
    threat = '[[evaluation.threats]]\nkind = "memory_faults"\nimages = "none"\n'
    (found,) = parse(HEAD + threat).evaluation.threats
    assert found.model_dump()["images"] is None
    assert parse(HEAD).evaluation.threats[1].model_dump()["images"] == 1000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no\.toml: cannot read the recipe \(No such file"):
        read_recipe(tmp_path / "no.toml")
    with pytest.raises(RecipeError, match=r"cannot read the recipe \(Is a directory\)"):
        read_recipe(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(RecipeError, match=r"r\.toml: wanted UTF-8 text"):
        read_recipe(tmp_path / "r.toml")
