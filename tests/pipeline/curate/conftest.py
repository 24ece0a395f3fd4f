"""What tests of the curation share: a folder of raw videos, and what was made of it once."""

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
