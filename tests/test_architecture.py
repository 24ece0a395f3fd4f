"""The layers: configs -> pipeline -> datasets -> stages. Nothing imports upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["stages", "datasets", "pipeline", "configs"]
ONLY_ABOVE_STAGES = {"ray", "yaml", "cyclopts", "gradio", "pydantic"}


MODEL_FOLDER = ROOT / "stages" / "demo"
"""Data, as `convert` writes it; its `pipeline.py` is run by diffusers from another place."""


def sources(layer: str) -> list[Path]:
    return sorted(path for path in (ROOT / layer).rglob("*.py") if MODEL_FOLDER not in path.parents)


def imported(path: Path) -> set[str]:
    """Dotted names a file imports, anywhere in it; relative ones resolved to `posedance.LAYER...`."""
    package = ("posedance", *path.relative_to(ROOT).parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            names |= {f"{base}.{node.module or alias.name}".strip(".") for alias in node.names}
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_below(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    assert sources(layer), f"{layer}/ is empty"
    for path in sources(layer):
        upward = {name for name in imported(path) if any(name.startswith(f"posedance.{a}") for a in above)}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_inside_the_package_are_relative(layer: str) -> None:
    for path in sources(layer):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not (node.module or "").startswith("posedance"), path


def test_stages_know_no_ray_no_yaml_no_cli() -> None:
    for path in sources("stages"):
        found = {name.split(".")[0] for name in imported(path)} & ONLY_ABOVE_STAGES
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_datasets_has_no_init() -> None:
    """With one, our `datasets` would shadow Hugging Face's in Ray workers, silently."""
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_every_package_is_listed_in_pyproject() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for layer in LAYERS:
        for folder in {path.parent for path in sources(layer)}:
            name = folder.relative_to(ROOT)
            assert f'"posedance.{".".join(name.parts)}" = "{name}"' in listed, name


def test_import_does_nothing(tmp_path: Path) -> None:
    """Importing any module loads no model library, touches no device, writes no file and sets no variable."""
    modules = [
        ".".join(("posedance", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for layer in LAYERS
        for path in sources(layer)
    ]
    script = f"""
import importlib, os, sys
import cv2  # it sets LD_LIBRARY_PATH for itself
before = dict(os.environ)
for name in {modules!r}:
    importlib.import_module(name)
import torch
assert not torch.cuda.is_initialized()
assert dict(os.environ) == before, "environment changed"
heavy = {{"mediapipe", "rtmlib", "ray"}} & set(sys.modules)
assert not heavy, heavy
assert not os.listdir("."), os.listdir(".")
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
