"""The scratch folder lies where others may write: what is not ours alone is refused."""

import os
import tempfile
from pathlib import Path

import pytest

from posedance.pipeline.job.scratch import scratch
from posedance.stages.errors import OutputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the scratch folder of this user will be."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"posedance-{os.getuid()}"


def test_it_is_made_for_this_user_alone(place: Path) -> None:
    assert scratch("a", "b") == place / "a" / "b" and scratch("a").is_dir()
    assert place.stat().st_mode & 0o777 == 0o700


def test_a_symlink_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputError, match=r"is a symlink: remove it, or set TMPDIR to a folder of your own"):
        scratch("inputs")
    assert not list((tmp_path / "theirs").iterdir())


def test_one_that_others_may_write_is_refused(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(OutputError, match=r"is open to other users \(mode 777, 700 is wanted\)"):
        scratch()


def test_a_file_in_its_place_is_refused(place: Path) -> None:
    place.touch()
    with pytest.raises(OutputError, match="is no folder"):
        scratch()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_one_of_another_user_is_refused(place: Path) -> None:
    place.mkdir(0o700)
    os.chown(place, 12345, 12345)
    with pytest.raises(OutputError, match="belongs to another user"):
        scratch()
