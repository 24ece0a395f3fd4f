"""Scores of the picture, on small pictures whose answers are known."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from posedance.datasets.curation import technical
from posedance.datasets.curation.camera import camera_step, shift_of
from posedance.datasets.curation.clip import Box, Clip, Frames, Probe, frames_at
from posedance.datasets.curation.sharpness import sharpness
from posedance.stages.types import VideoInfo

FPS = Fraction(20)


def texture(height: int = 160, width: int = 120, seed: int = 0) -> np.ndarray:
    """A picture uint8 [H, W, 3] with corners to follow."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def evidence(frames: np.ndarray, *, fps: Fraction = FPS) -> Frames:
    count, height, width = frames.shape[:3]
    info = VideoInfo(width, height, fps, count, count / fps, False)
    clip = Clip(Path("source.mp4"), 0, count, fps)
    return Frames(info, clip, frames, frames[::10], np.arange(0, count, 10))


def dancing(count: int = 40) -> np.ndarray:
    """A square that moves over a still background."""
    frames = texture()[None].repeat(count, 0)
    for number, frame in enumerate(frames):
        x, y = int(50 + 30 * np.sin(number / 5)), int(60 + 30 * np.cos(number / 5))
        frame[y : y + 40, x : x + 24] = (250, 20, 20)
    return frames


def panning(count: int = 40, step: float = 2.0) -> np.ndarray:
    """A picture that is moved as a whole."""
    picture = cv2.GaussianBlur(texture(width=240), (0, 0), 1)
    frames = [
        cv2.warpAffine(picture, np.array([[1, 0, -step * k], [0, 1, 0]], np.float64), (120, 160))
        for k in range(count)
    ]
    return np.stack(frames)


def test_probe_scores_say_what_the_file_says() -> None:
    info = VideoInfo(640, 480, Fraction(25), 100, Fraction(4), False)
    probe = Probe(info, Clip(Path("a.mp4"), 25, 75, Fraction(25), Box(80, 0, 560, 360)), 5)
    assert (technical.duration(probe), technical.size(probe), technical.fps(probe)) == (2.0, 360.0, 25.0)
    assert technical.damaged(probe) == 0.1


def test_black_counts_frames() -> None:
    frames = dancing(20)
    frames[:5] = 3
    assert technical.black(evidence(frames)) == 0.25


@pytest.mark.parametrize("level", [10, 128, 240])
def test_exposure_is_the_luma_of_a_grey_picture(level: int) -> None:
    grey = np.full((20, 32, 32, 3), level, np.uint8)
    assert technical.exposure(evidence(grey)) == pytest.approx(level, abs=0.5)


def test_frozen_is_the_longest_stretch() -> None:
    frames = dancing(40)
    frames[20:] = frames[20]
    assert technical.frozen(evidence(frames)) == pytest.approx(19 / 20)
    assert technical.frozen(evidence(dancing(40))) == 0.0


def test_repeated_frames_do_not_count() -> None:
    frames = dancing(40)
    assert technical.distinct_fps(evidence(frames)) == pytest.approx(20, abs=0.6)
    assert technical.distinct_fps(evidence(frames[np.arange(40) // 2])) == pytest.approx(10, abs=0.6)


def test_a_still_picture_has_no_rate_to_doubt() -> None:
    still = texture()[None].repeat(20, 0)
    assert technical.distinct_fps(evidence(still)) == 20


def test_a_slideshow_is_explained_by_one_motion_and_a_dance_is_not() -> None:
    assert technical.slideshow(evidence(panning(step=0.4))) > 0.9
    assert technical.slideshow(evidence(texture()[None].repeat(20, 0))) == 1.0
    assert technical.slideshow(evidence(dancing())) < 0.1


def test_a_blur_lowers_sharpness_in_any_direction() -> None:
    picture = cv2.cvtColor(texture(), cv2.COLOR_RGB2GRAY)
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    blurs = [sharpness(cv2.blur(picture, size)) for size in ((1, 1), (9, 1), (1, 9), (15, 15))]
    assert blurs[0] > 0.75 and max(blurs[1:3]) < 0.75 * blurs[0] and blurs[3] < 0.5 * blurs[0]
    assert sharpness(noisy) > 0.8 and sharpness(np.full((32, 32), 9, np.uint8)) == 0.0


def test_the_speed_of_a_camera_is_in_longer_sides_a_second() -> None:
    assert technical.camera(evidence(panning(step=2.0))) == pytest.approx(2 * 20 / 160, rel=0.05)
    assert technical.camera(evidence(dancing())) < 0.01


def test_a_camera_step_is_found_by_the_background_alone() -> None:
    before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in panning(2, 3.0))
    person = slice(20, 150), slice(15, 75)
    after[person] = before[person]  # the dancer does not move in the picture
    mask = np.full(before.shape, 255, np.uint8)
    mask[person] = 0
    assert camera_step(before, after, mask)[:, 2] == pytest.approx([-3, 0], abs=0.3)


def test_without_a_background_the_camera_is_still() -> None:
    flat = np.full((80, 60), 128, np.uint8)
    step = camera_step(flat, flat)
    assert shift_of(step, 60, 80) == 0.0


def test_frames_at_another_rate_are_those_on_screen() -> None:
    clip = Clip(Path("a.mp4"), 10, 40, Fraction(30))
    assert frames_at(clip, Fraction(15)).tolist() == list(range(10, 40, 2))
    assert frames_at(clip, Fraction(30)).tolist() == list(range(10, 40))
    assert frames_at(clip, Fraction(20)).tolist()[:5] == [10, 11, 13, 14, 16]
    assert frames_at(Clip(Path("a.mp4"), 0, 1, Fraction(30)), Fraction(15)).tolist() == [0]


@pytest.mark.skipif(find_spec("rapidocr") is None, reason="the extra rapidocr is not installed")
def test_text_is_found_by_its_area() -> None:
    from posedance.datasets.curation.text import text

    frames = np.full((20, 320, 240, 3), 120, np.uint8)
    plain = text(evidence(frames))
    for frame in frames:
        cv2.putText(frame, "DANCE WITH ME", (10, 280), cv2.FONT_HERSHEY_DUPLEX, 0.8, (255, 255, 255), 2)
    assert plain == 0.0 and 0.03 < text(evidence(frames)) < 0.2
