"""The README's commands run: every fenced bash block but those that a comment excuses, with real files."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXCUSED = "<!-- not run by the tests"


def blocks() -> list[str]:
    """Commands of the README's bash blocks, without the activation of .venv."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"(?m)^(<!-- .*-->\n)?```bash\n(.*?)```", text, re.S)
    assert found
    commands = [body for note, body in found if not note.startswith(EXCUSED)]
    return [re.sub(r"(?m)^source .*\n", "", body) for body in commands]


def test_the_readme_opens_with_the_two_commands_and_the_makefile_has_them() -> None:
    top = (ROOT / "README.md").read_text()[:400]
    assert "    make demo\n    make test\n" in top
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"(?m)^demo:", makefile) and re.search(r"(?m)^test:", makefile)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_file_that_the_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:configs|pipeline|stages|datasets|tests)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split("\n")[0][:60])
def test_the_readme_runs(block: str, tmp_path: Path, samples: Path) -> None:
    """In a copy of the checkout's top level beside a short dance and a picture, as a user has them."""
    for name in ("run.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(samples / "ref_03.jpeg", tmp_path / "character.png")
    shorten(samples / "driving_02.mp4", tmp_path / "dance.mp4")
    script = block.replace("python ", f"{sys.executable} ")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr


def shorten(source: Path, target: Path) -> None:
    """The first second of a video."""
    from fractions import Fraction

    from posedance.stages.media.encode import VideoWriter
    from posedance.stages.media.video import Clip, probe, read_frames

    info = probe(source)
    with VideoWriter(target, info.width, info.height, info.fps, preset="veryfast") as writer:
        for frame in read_frames(source, Clip(duration=Fraction(1))):
            writer.write(frame)
