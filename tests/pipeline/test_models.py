"""The table of models and what the command line knows of it: options for all files, names in one place."""

import ast
from pathlib import Path

from posedance.pipeline.config import AnimateConfig, WeightsConfig
from posedance.pipeline.evaluate.model import EvaluateConfig
from posedance.pipeline.job.inputs import PATHS
from posedance.stages.models import GENERATORS

ROOT = Path(__file__).parents[2]
DEFAULT, FALLBACK = "demo", "tiny-random"
"""The model that is used where none is named, and the one where that is not installed."""


def test_every_file_of_a_model_has_an_option_and_no_option_is_without_a_model():
    files = {key for model in GENERATORS.values() for key in model.files}
    assert set(WeightsConfig.model_fields) == files
    assert {path.removeprefix("weights.") for path in PATHS if path.startswith("weights.")} == files


def test_a_decoder_needs_none_but_the_models_own_files():
    for model in GENERATORS.values():
        assert set(model.vae_files) <= set(model.files)


def named_in(path):
    """Models of the table that a source file names; the keys of dictionaries are options' names."""
    tree = ast.parse(path.read_text())
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in keys and node.value in list(GENERATORS)
    }


def test_nothing_above_the_table_asks_for_a_model_by_its_name():
    assert AnimateConfig().model == EvaluateConfig().model == DEFAULT
    named = {
        str(path.relative_to(ROOT)): names
        for layer in ("pipeline", "datasets")
        for path in (ROOT / layer).rglob("*.py")
        if (names := named_in(path))
    }
    defaults = {path: names for path, names in named.items() if names <= {DEFAULT, FALLBACK}}
    assert named == defaults, "a model's own facts belong into its row of stages/models.py"
