"""The house: layers that import downwards only, no import circles, rooms and files that stay small."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["stages", "datasets", "pipeline", "configs"]
ONLY_ABOVE_STAGES = {"ray", "yaml", "cyclopts", "gradio", "pydantic"}
FILES_IN_PIPELINE = 14
LINES_OF_A_FILE = 400

MODEL_FOLDER = ROOT / "stages" / "demo"
"""Data, as `convert` writes it; its `pipeline.py` is run by diffusers from another place."""


def sources(layer: str) -> list[Path]:
    return sorted(path for path in (ROOT / layer).rglob("*.py") if MODEL_FOLDER not in path.parents)


def module_name(root: Path, path: Path) -> str:
    """Dotted name of a file under `root`, which is `posedance`; a package is called by its folder."""
    return ".".join(("posedance", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


def imported(root: Path, path: Path) -> set[str]:
    """What a file imports, wherever the statement stands: modules, and names in modules."""
    package = ["posedance", *path.relative_to(root).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = above + ([node.module] if node.module else [])
            names |= {".".join([*source, alias.name]) for alias in node.names}
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_below(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    assert sources(layer), f"{layer}/ is empty"
    for path in sources(layer):
        upward = {
            name for name in imported(ROOT, path) if any(name.startswith(f"posedance.{a}") for a in above)
        }
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_inside_the_package_are_relative(layer: str) -> None:
    for path in sources(layer):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not (node.module or "").startswith("posedance"), path


def test_stages_know_no_ray_no_yaml_no_cli() -> None:
    for path in sources("stages"):
        found = {name.split(".")[0] for name in imported(ROOT, path)} & ONLY_ABOVE_STAGES
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def import_graph(root: Path, paths: list[Path]) -> dict[str, set[str]]:
    """For each module those of `paths` that it imports: lazily, for type checkers, or through a package.

    `import a.b.c` runs `a` and `a.b` first; those above the importing module itself have run before it.
    """
    modules = {module_name(root, path): path for path in paths}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for name in imported(root, path):
            parts = name.split(".")
            runs = {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & set(modules)
            above = {other for other in runs if f"{module}.".startswith(f"{other}.")}
            graph[module] |= runs - above
            if above and max(runs, key=len) in above - {module}:  # names out of a package above
                graph[module].add(max(runs, key=len))
    return graph


def import_circles(graph: dict[str, set[str]]) -> list[str]:
    """For each module a shortest circle through it, written "a -> b -> a" from its first by name on."""
    found: set[str] = set()
    for start in graph:
        came_from, reached = {start: start}, [start]
        for module in reached:
            if start in graph[module]:
                circle = [module]
                while circle[0] != start:
                    circle.insert(0, came_from[circle[0]])
                first = circle.index(min(circle))
                found.add(" -> ".join([*circle[first:], *circle[:first], circle[first]]))
                break
            for other in sorted(graph[module] - set(came_from)):
                came_from[other] = module
                reached.append(other)
    return sorted(found, key=len)


def test_there_is_no_import_circle() -> None:
    circles = import_circles(import_graph(ROOT, [path for layer in LAYERS for path in sources(layer)]))
    assert not circles, f"{len(circles)} import circles:\n" + "\n".join(circles)


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a.py": "from . import b", "b.py": "import os"}, []),
        ({"a.py": "from . import b", "b.py": "def f():\n    from .a import x"}, ["a", "b", "a"]),
        ({"a.py": "from .b import x", "b.py": "if TYPE_CHECKING:\n    from .a import X"}, ["a", "b", "a"]),
        (
            {"a.py": "from . import b", "b.py": "from .c import d", "c/d.py": "import posedance.a"},
            ["a", "b", "c.d", "a"],
        ),
        ({"c/__init__.py": "from .d import x", "c/d.py": "from . import y"}, ["c", "c.d", "c"]),
        ({"c/__init__.py": "from .d import x", "c/d.py": "from .e import y", "c/e.py": ""}, []),
        ({"c/__init__.py": "from ..a import x", "c/d.py": "", "a.py": "from .c.d import y"}, ["a", "c", "a"]),
    ],
)
def test_circles_are_found_in_a_made_up_tree(
    tmp_path: Path, files: dict[str, str], circle: list[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = import_circles(import_graph(tmp_path, [tmp_path / name for name in files]))
    assert found == ([" -> ".join(f"posedance.{module}" for module in circle)] if circle else [])


def test_rooms_and_files_stay_small() -> None:
    beside = [path.name for path in (ROOT / "pipeline").iterdir() if path.is_file()]
    assert len(beside) <= FILES_IN_PIPELINE, (
        f"pipeline/ holds {len(beside)} files beside its folders: {beside}"
    )
    lines = {path: len(path.read_text().splitlines()) for layer in LAYERS for path in sources(layer)}
    long = {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > LINES_OF_A_FILE}
    assert not long, long


def test_scripts_in_strings_import_what_is_there() -> None:
    """Tests start processes with a script each: its imports move with the modules, unseen by linters."""
    places = [path for layer in (*LAYERS, "tests") for path in sources(layer)]
    modules = {module_name(ROOT, path) for path in places}
    gone = {
        (str(path.relative_to(ROOT)), module)
        for path in places
        for module, names in re.findall(r"(?m)^from (posedance[\w.]+) import ([\w, ]+)", path.read_text())
        if module not in modules and not {f"{module}.{name}" for name in names.split(", ")} <= modules
    }
    assert not gone


def test_every_test_file_says_what_it_is_about() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not path.read_text().startswith('"""')
    ]
    assert not silent


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
    """Importing any module loads no model library, touches no device, writes no file and sets no variable.

    What waits for a person, and what measures raw videos in many processes, does not load torch either.
    """
    modules = [module_name(ROOT, path) for layer in LAYERS for path in sources(layer)]
    script = f"""
import importlib, os, sys
import cv2  # it sets LD_LIBRARY_PATH for itself
before = dict(os.environ)
for name in ("web.server", "web.previews", "curate.curate", "batch.stages"):
    importlib.import_module(f"posedance.pipeline.{{name}}")
assert "torch" not in sys.modules
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
