import ast
from pathlib import Path

import pytest

from bitproof.reproduce.sources import Sources, syntax_text

MODULES = {
    "__init__.py": '"""Package."""\n',
    "core/__init__.py": "",
    "core/spec.py": "LIMIT = 3\n",
    "models/__init__.py": "from bitproof.models.a import A\nfrom bitproof.models.b import B as C\n",
    "models/a.py": "from bitproof.core import spec\nimport json\nclass A: pass\n",
    "models/b.py": "class B: pass\n",
    "cli/__init__.py": "from bitproof.models import A\n",
    "run.py": "def go():\n    from bitproof.models import A\n    return A\n",
    "other.py": "from bitproof.models import C\nimport bitproof.cli\nfrom os import path\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        path = tmp_path / "bitproof" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "bitproof"


def test_a_name_is_followed_through_its_room(root: Path) -> None:
    found = Sources(root).closure(["bitproof.run"])
    assert found == ["bitproof.core.spec", "bitproof.models.a", "bitproof.run"]


def test_a_renamed_name_and_a_whole_room_are_followed(root: Path) -> None:
    assert Sources(root).imports("bitproof.other") == {"bitproof.models.b", "bitproof.cli"}


def test_what_is_left_out_brings_nothing_in(root: Path) -> None:
    found = Sources(root).closure(["bitproof.other"], without=["bitproof.cli"])
    assert found == ["bitproof.models.b", "bitproof.other"]


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    '''Tell.'''\n    return x + 1\n",
        "def f(x):  # a remark\n    return (x + 1)\n",
        'def f(\n    x,\n):\n    "Tell."\n    return x+1\n    """More."""\n',
    ],
)
def test_remarks_and_layout_do_not_count(text: str) -> None:
    plain = "def f(x):\n    return x + 1\n"
    assert syntax_text(ast.parse(text)) == syntax_text(ast.parse(plain))


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return x + 2\n",
        "def f(x):\n    return x - 1\n",
        "def f(x):\n    return x + 1.0\n",
        "def f(x):\n    return x + '1'\n",
        "def f(y):\n    return x + 1\n",
        "def f(x=None):\n    return x + 1\n",
        "def f(x):\n    return\n",
        "@g\ndef f(x):\n    return x + 1\n",
        "def f(*x):\n    return x + 1\n",
        "async def f(x):\n    return x + 1\n",
    ],
)
def test_whatever_else_changes_counts(text: str) -> None:
    plain = "def f(x):\n    return x + 1\n"
    assert syntax_text(ast.parse(text)) != syntax_text(ast.parse(plain))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(*, a, b=1): g()", "def f(*, a=1, b): g()"),
        ("{**a, 'x': b}", "{'x': a, **b}"),
        ("x[1:]", "x[:1]"),
        ("a - b", "b - a"),
        ("f(a)(b)", "f(a, b)"),
    ],
)
def test_places_count(one: str, other: str) -> None:
    assert syntax_text(ast.parse(one)) != syntax_text(ast.parse(other))


def test_the_text_of_a_tree_does_not_change_with_python() -> None:
    tree = ast.parse("@d\ndef f(a, *, b=1) -> int:\n    'Tell.'\n    return f'{a!r:>{b}} x'\n")
    assert syntax_text(tree) == (
        "Module(body=[,FunctionDef(name=[,'f']args=[,arguments(args=[,arg(arg=[,'a'])]"
        "kwonlyargs=[,arg(arg=[,'b'])]kw_defaults=[,Constant(value=[,1])])]"
        "body=[,Return(value=[,JoinedStr(values=[,FormattedValue(value=[,Name(id=[,'a'])]"
        "conversion=[,114]format_spec=[,JoinedStr(values=[,Constant(value=[,'>']),"
        "FormattedValue(value=[,Name(id=[,'b'])]conversion=[,-1])])]),Constant(value=[,' x'])])])]"
        "decorator_list=[,Name(id=[,'d'])]returns=[,Name(id=[,'int'])])])"
    )
