"""What tests of the curation share: folders of raw videos, and what was made of them once."""

import shutil
import time
from pathlib import Path

import pytest
from curations import LENGTH, config_of, dance, write_video

from posedance.pipeline.curate.curate import curate


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dances with a cut between them, one dance, the same bytes again, and a still."""
    folder = tmp_path_factory.mktemp("raw")
    first, second, third = dance(1), dance(2), dance(3)
    (folder / "below").mkdir()
    write_video(folder / "two.mp4", first + second)
    write_video(folder / "below" / "three.v2.mp4", third)
    (folder / "zz-again.mp4").write_bytes((folder / "below" / "three.v2.mp4").read_bytes())
    write_video(folder / "still.mp4", [first[0]] * LENGTH)
    return folder


@pytest.fixture(scope="session")
def curated(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was made of the raw videos."""
    output = tmp_path_factory.mktemp("curated") / "out"
    assert curate(config_of(sources, output)) == 0
    return output


@pytest.fixture(scope="session")
def few_sources(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer raw videos: two clips of which one is kept, a still, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("two.mp4", "still.mp4"):
        shutil.copy(sources / name, folder)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="session")
def few_curated(few_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """What was made of them, undisturbed, and how long that took in seconds."""
    output, began = tmp_path_factory.mktemp("few-curated") / "out", time.monotonic()
    assert curate(config_of(few_sources, output)) == 0
    return output, time.monotonic() - began
