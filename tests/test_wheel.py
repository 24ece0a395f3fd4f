"""The wheel, installed into an empty environment away from the checkout: nothing is missing, commands run."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["stages", "datasets", "pipeline", "configs"]
WHERE = """
import sys
import posedance, posedance.stages, posedance.pipeline.cli, posedance.datasets.clips, posedance.configs
print(*posedance.__path__)
print(*{module.__file__ for name, module in sys.modules.items() if name.startswith("posedance.")
        and getattr(module, "__file__", None)})
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its own folders beside what it builds."""
    source = tmp_path_factory.mktemp("source")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, source / layer, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*build, "--disable-pip-version-check", "-w", source / "dist", source], source)
    (made,) = (source / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that has the wheel, and this one's libraries by their paths.

    Path files of those libraries are not read there, so an editable install of the checkout stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q", "--no-deps"]
    run([*pip, "--no-index", "--disable-pip-version-check", "--force-reinstall", wheel], folder)
    return folder / "bin"


def run(command: list[object], folder: Path) -> str:
    """What a command prints, in a folder that is not the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
def test_it_holds_every_module_config_and_file_of_the_shipped_models(wheel: Path) -> None:
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    files += (ROOT / "configs").rglob("*.yaml")
    for model in ("demo", "painter", "upscaler"):
        files += (ROOT / "stages" / model).rglob("*")
    wanted = {f"posedance/{path.relative_to(ROOT)}" for path in files if path.is_file()}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert len(wanted) > 150 and wanted <= held, wanted - held
    assert not [name for name in held if name.startswith(tuple(f"{layer}/" for layer in [*LAYERS, "tests"]))]


@pytest.mark.slow
def test_it_runs_without_the_checkout(wheel: Path, installed: Path, tmp_path: Path) -> None:
    for path in run([installed / "python", "-c", WHERE], tmp_path).split():
        assert Path(path).is_relative_to(installed.parent), path
    version = run([installed / "python", "-m", "posedance.pipeline", "--version"], tmp_path)
    assert version.strip() == wheel.name.split("-")[1]
    told = run([installed / "posedance", "doctor"], tmp_path)
    assert "demo: works" in told and "tiny-random: works" in told
