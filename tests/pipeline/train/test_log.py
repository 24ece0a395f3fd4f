"""What a training writes while it runs, and what is read of it at the end."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from posedance.pipeline.train.card import training_notes
from posedance.pipeline.train.log import Log, read_log
from posedance.stages.media.video import Clip, probe, read_frames


def test_a_line_that_a_power_cut_left_half_spoils_neither_the_next_nor_the_model_card(tmp_path: Path) -> None:
    with Log(tmp_path, 0, main=True) as log:
        log.write(1, {"loss_mean": 2.0})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "loss_me')
    with Log(tmp_path, 1, main=True) as log:
        log.write(2, {"loss_mean": 1.5})
        log.write(2, {"validation_psnr": 20.0})
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 2]
    notes = training_notes(tmp_path)
    assert "2 steps; running mean of the loss 2.000 -> 1.500" in notes and "validation_psnr 20.000" in notes


def test_a_log_without_losses_is_no_reason_to_lose_a_model(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "validation_psnr": 20.0}) + "\n")
    assert "says nothing of its losses" in training_notes(tmp_path)


def test_validation_clips_are_videos_by_name_and_step(tmp_path: Path) -> None:
    levels = (40, 120, 200)
    frames = np.stack([np.full((32, 64, 3), level, np.uint8) for level in levels])
    with Log(tmp_path, 0, main=True) as log:
        for step in (5, 10):
            log.add_video("clip-0", frames, Fraction(8), step)
    names = [path.name for path in sorted((tmp_path / "validation").iterdir())]
    assert names == ["clip-0-0000005.mp4", "clip-0-0000010.mp4"]
    written = tmp_path / "validation" / names[0]
    info = probe(written)
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 32, 8, 3)
    for frame, level in zip(read_frames(written, Clip()), levels, strict=True):
        assert abs(frame.mean() - level) < 3


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    with Log(tmp_path, 0, main=False) as log:
        log.write(1, {"loss": 1.0})
        log.add_video("clip-0", np.zeros((2, 32, 32, 3), np.uint8), Fraction(8), 1)
    assert not list(tmp_path.iterdir())
