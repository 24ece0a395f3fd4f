"""The driving video's sound is tried before anything long is done with the video."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedance.pipeline.animate.pose_steps import driving_poses
from posedance.pipeline.config import AnimateConfig
from posedance.stages.errors import VideoError
from posedance.stages.media import audio

NO_ESTIMATOR: Any = None


def test_sound_that_cannot_be_written_is_told_before_poses_are_found(tmp_path: Path, make_video, monkeypatch):
    path = make_video(tmp_path / "in.mkv", 20, sound=np.zeros(48000, np.float32))
    monkeypatch.setattr(audio, "_one_after_another", lambda packets: reversed(list(packets)))
    config = AnimateConfig(driving=path, output=tmp_path / "out")
    with pytest.raises(VideoError, match=r"the sound of .*in\.mkv cannot be written"):
        driving_poses(config, tmp_path / "poses.npz", NO_ESTIMATOR)
    silent = AnimateConfig.model_validate({**config.model_dump(), "encode": {"audio": False}})
    with pytest.raises(AttributeError):
        driving_poses(silent, tmp_path / "poses.npz", NO_ESTIMATOR)
