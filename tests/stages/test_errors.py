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


def for_users():
    """Names of what comes from PosedanceError, over any number of bases."""
    found = exceptions()

    def known(name):
        return name == "PosedanceError" or any(map(known, found.get(name, [])))

    return {name for name in found if known(name)} - {"PosedanceError"}


def test_the_tree_draws_every_error_that_a_user_can_meet():
    assert sorted(drawn()) == sorted(for_users())


def test_the_docstring_names_what_else_is_raised():
    others = exceptions().keys() - for_users() - {"PosedanceError"}
    assert others == set(re.findall(r"`(\w+)` \(", errors.__doc__))


@pytest.mark.parametrize("name", drawn())
def test_an_error_survives_pickling(name):
    error = getattr(errors, name)("what, which value, what to do")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, errors.PosedanceError)
    assert (type(again), str(again)) == (type(error), str(error))
