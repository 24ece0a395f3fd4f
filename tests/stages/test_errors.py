"""The tree of errors: what its docstring draws is what there is, and every error survives pickling."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from posedance.stages import errors

ROOT = Path(__file__).parents[2]


def exceptions():
    """Classes of the package that can be raised: {name: names of their bases}."""
    found = {}
    for layer in ("stages", "datasets", "pipeline"):
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found[node.name] = [ast.unparse(base) for base in node.bases]

    def raised(name):
        return name.endswith(("Exception", "Error")) or any(map(raised, found.get(name, [])))

    return {name: bases for name, bases in found.items() if any(map(raised, bases))}


def drawn():
    return re.findall(r"(?:├──|└──) (\w+) ", errors.__doc__)


def test_the_tree_draws_every_error_that_a_user_can_meet():
    users = [name for name, bases in exceptions().items() if bases == ["PosedanceError"]]
    assert sorted(drawn()) == sorted(users)


def test_the_docstring_names_what_else_is_raised():
    others = [name for name, bases in exceptions().items() if bases != ["PosedanceError"]]
    assert set(others) - {"PosedanceError"} == set(re.findall(r"`(\w+)` \(", errors.__doc__))


@pytest.mark.parametrize("name", drawn())
def test_an_error_survives_pickling(name):
    error = getattr(errors, name)("what, which value, what to do")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, errors.PosedanceError)
    assert (type(again), str(again)) == (type(error), str(error))
