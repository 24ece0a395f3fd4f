"""Where clips begin and end, on small pictures and brightnesses whose answers are known."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from posedance.datasets.curation import dissolves
from posedance.datasets.curation.bars import find_bars, profile_of
from posedance.datasets.curation.clip import Box
from posedance.datasets.curation.shots import (
    damaged_frames,
    find_clips,
    goes_on,
    split_at_fades,
    split_evenly,
    stands_out,
)
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.video import DecodeReport, probe

FPS = Fraction(25)
HEIGHT, WIDTH = 128, 96


def room(seed: int, frames: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A patterned wall with a square that moves in front: uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    wall = rng.integers(40, 220, (height // 16, width // 16, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    pictures = wall[None].repeat(frames, 0)
    for number, picture in enumerate(pictures):
        x, y = int(width * (0.3 + 0.2 * np.sin(number / 4))), int(height * (0.3 + 0.2 * np.cos(number / 5)))
        picture[y : y + height // 4, x : x + width // 4] = rng.integers(0, 255) if number == 0 else 128
    return pictures


def written(path: Path, frames: np.ndarray) -> Path:
    with VideoWriter(path, frames.shape[2], frames.shape[1], FPS, preset="veryfast") as writer:
        for frame in frames:
            writer.write(frame)
    return path


def spoil(path: Path, frames: slice) -> None:
    """Take the data of these frames away, in the order of the file."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as video:
        packets = [packet for packet in video.demux(video=0) if packet.size]
    for packet in packets[frames]:
        assert packet.pos is not None
        data[packet.pos + 6 : packet.pos + packet.size] = bytes(packet.size - 6)
    path.write_bytes(data)


def spans(path: Path) -> list[tuple[int, int]]:
    return [(clip.start_frame, clip.end_frame) for clip in find_clips(path, probe(path))]


def test_cuts_are_found_on_their_frame(tmp_path: Path) -> None:
    frames = np.concatenate([room(1, 30), room(2, 21), room(3, 40)])
    assert spans(written(tmp_path / "a.mp4", frames)) == [(0, 30), (30, 51), (51, 91)]


def test_a_faint_cut_is_one_where_it_stands_out() -> None:
    assert stands_out([1.0, 2.0, 16.0, 8.0, 9.0]) and stands_out([1.0, 1.0, 10.0, 0.5, 1.0])
    assert not stands_out([1.0, 2.0, 10.0, 3.0, 2.0])


def test_two_rooms_that_look_alike_are_two_shots(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1.5, (40, 96, 64, 3))
    rooms = np.repeat([[150, 190, 205], [171, 193, 213]], 20, 0)[:, None, None]
    frames = (rooms + noise + 20 * np.sin(np.arange(96) / 9)[:, None, None]).clip(0, 255).astype(np.uint8)
    path = written(tmp_path / "alike.mp4", frames)
    assert spans(path) == [(0, 20), (20, 40)]


def test_from_damage_to_the_next_key_frame_all_is_damaged_and_no_change_is_a_cut(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH, 3), np.uint8).repeat(30, 0)
    path = written(tmp_path / "a.mp4", np.concatenate([room(1, 30), room(2, 30), noise]))
    spoil(path, slice(20, 24))
    report = DecodeReport()
    first, second = find_clips(path, probe(path), report=report)
    assert (first.end_frame, second.start_frame) == (60, 60)
    assert damaged_frames(second, report) == 0 and 36 <= damaged_frames(first, report) <= 44


def test_a_picture_that_coding_renews_is_no_cut(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).integers(-40, 40, (2, HEIGHT, WIDTH, 1))
    frames = room(1, 60).astype(int)
    frames[:30] += grain[0]
    frames[30:] += grain[1]
    renewed = written(tmp_path / "a.mp4", frames.clip(0, 255).astype(np.uint8))
    assert spans(renewed) == [(0, 60)]
    lit = np.concatenate([np.full((30, HEIGHT, WIDTH, 3), 20, np.uint8), room(1, 30)])
    assert spans(written(tmp_path / "b.mp4", lit)) == [(0, 30), (30, 60)], "an even picture is another too"


def test_a_cut_between_small_pictures_in_large_bars_is_found(tmp_path: Path) -> None:
    frames = np.zeros((60, HEIGHT, 6 * WIDTH, 3), np.uint8)
    frames[:, :, : 2 * WIDTH][:, :, WIDTH:] = np.concatenate([room(1, 30), room(2, 30)])
    (first, second) = find_clips(path := written(tmp_path / "a.mp4", frames), probe(path))
    assert (first.end_frame, second.start_frame) == (30, 30)
    assert first.bars == Box(WIDTH + 2, 0, 2 * WIDTH - 2, HEIGHT)


def test_bars_do_not_make_two_pictures_alike() -> None:
    before, after = np.zeros((2, HEIGHT, 5 * WIDTH, 3), np.uint8)
    before[:, 2 * WIDTH : 3 * WIDTH] = first = room(1, 1)[0]
    after[:, 2 * WIDTH : 3 * WIDTH] = first + (room(2, 1)[0].astype(int) - first) * 0.3
    assert not goes_on(before, after) and goes_on(before, before)


def test_a_fade_through_black_belongs_to_no_clip(tmp_path: Path) -> None:
    before, after = room(1, 40), room(2, 40)
    for k in range(8):
        before[32 + k] = before[32 + k] * (1 - (k + 1) / 8)
        after[k] = after[k] * ((k + 1) / 8)
    (first, second) = spans(written(tmp_path / "a.mp4", np.concatenate([before, after])))
    assert first[0] == 0 and 31 <= first[1] <= 33 and 46 <= second[0] <= 48 and second[1] == 80


def test_what_is_between_fades_and_black() -> None:
    def ramp(first: float, last: float) -> np.ndarray:
        return np.linspace(first, last, 10)

    lit, black = np.full(40, 90.0), np.full(5, 2.0)
    fade = [ramp(85, 5), black, ramp(5, 85)]
    brightness = np.concatenate([lit, *fade, lit])
    assert split_at_fades([(0, 105)], brightness, FPS) == [(0, 39), (66, 105)]
    long = np.concatenate([lit, np.full(25, 2.0), lit])
    shots = [(0, 40), (40, 65), (65, 105)]
    assert split_at_fades(shots, long, FPS) == shots, "a second of black is a clip"
    nearer = np.concatenate([lit, *fade, 85 + np.array([1.0, 1.8, 2.4]), lit])
    assert split_at_fades([(0, 108)], nearer, FPS) == [(0, 39), (65, 108)], "who comes nearer is no fade"
    short = np.concatenate([lit[:3], *fade, lit])
    assert split_at_fades([(0, 68)], short, FPS)[0][0] >= 27, "a stray frame before a fade is none"
    assert split_at_fades([(0, 40)], np.full(40, 30.0), FPS) == [(0, 40)], "a dark scene has no fade"


@pytest.mark.parametrize(("length", "parts"), [(100, 1), (101, 2), (250, 3)])
def test_long_shots_are_split_evenly(length: int, parts: int) -> None:
    found = split_evenly((7, 7 + length), 100)
    lengths = [end - start for start, end in found]
    assert len(found) == parts and max(lengths) - min(lengths) <= 1 and max(lengths) <= 100
    assert found[0][0] == 7 and found[-1][1] == 7 + length
    assert all(before[1] == after[0] for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"),
    [(0, 0, 0, 0), (16, 16, 0, 0), (0, 0, 20, 12), (10, 0, 0, 0), (1, 1, 0, 0)],
)
def test_bars_are_found_where_they_are(top: int, bottom: int, left: int, right: int) -> None:
    frames = room(1, 5)
    frames[:, :top] = frames[:, HEIGHT - bottom :] = frames[:, :, :left] = frames[:, :, WIDTH - right :] = 9
    narrow = max(top, bottom) == 1
    truth = ((0, HEIGHT), (0, WIDTH)) if narrow else ((top, HEIGHT - bottom), (left, WIDTH - right))
    assert find_bars([profile_of(frame) for frame in frames]) == truth


def test_night_above_a_scene_is_no_bar() -> None:
    frames = room(1, 5)
    shade = np.clip((np.arange(HEIGHT) - 20) / 60, 0, 1)[:, None, None]
    frames = (frames * shade).astype(np.uint8)
    assert find_bars([profile_of(frame) for frame in frames]) == ((0, HEIGHT), (0, WIDTH))


def test_dissolves_are_suspected_where_the_picture_becomes_another() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 255, (2, 24, 24, 3))
    looks = np.stack([first] * 6 + [(first + second) / 2] + [second] * 6).astype(np.uint8)
    places = np.arange(13) * 12
    ((low, high),) = dissolves.suspects(looks, places, 0, 156)
    assert low <= 60 and high >= 84 and high - low < 100
    assert dissolves.suspects(looks[:6], places[:6], 0, 72) == []


def test_rooms_that_are_lit_alike_are_two_and_a_dancer_who_moves_leaves_one() -> None:
    green = np.full((24, 24, 3), (100, 120, 100), np.uint8)
    green[:, :8], green[16:] = 40, 180
    grey = green.copy()
    grey[:, 8:][:16], grey[16:] = (120, 108, 125), (180, 165, 180)
    moved = green.copy()
    moved[6:14, 10:14] = 180
    assert dissolves.correlation(green.astype(np.float32), grey.astype(np.float32)) > dissolves.ALIKE
    assert dissolves.becomes_another(green, grey) and not dissolves.becomes_another(green, moved)


def test_a_long_run_is_a_dissolve_though_no_frame_is_sure_to_be_a_shots_last() -> None:
    ends, members = np.zeros((2, 60))
    members[5:8] = members[20:36] = members[50:52] = 0.6
    members[26:30], members[36:39] = 0.25, 0.22
    ends[51] = 0.9
    assert dissolves.runs(ends, members) == [(20, 36), (50, 52)]


def test_what_passes_by_is_no_dissolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dissolves, "predictions", lambda frames, start, end: (np.zeros(end - start), sure))
    sure = np.zeros(60)
    sure[20:36] = 0.9
    first, second = (room(seed, 80, 32, 48) for seed in (1, 2))
    assert dissolves.transitions(np.concatenate([first[:40], second[:40]]), 10, 70) == [(30, 46)]
    assert dissolves.transitions(first, 10, 70) == []
    leaving, coming = first.copy(), first.copy()
    leaving[15:40], coming[40:55] = second[15:40], second[40:55]  # only its end, or its beginning, is noticed
    assert dissolves.transitions(leaving, 10, 70) == dissolves.transitions(coming, 10, 70) == []
    leaving[:15] = second[:15]
    assert dissolves.transitions(leaving, 10, 70) == [(30, 46)], "it was there for longer"


@pytest.mark.skipif(not dissolves.available(), reason="the extra transnet is not installed")
def test_a_dissolve_belongs_to_no_clip(tmp_path: Path) -> None:
    before, after = room(1, 60), room(2, 60)
    share = (np.arange(16) + 1)[:, None, None, None] / 17
    mixed = (before[44:] * (1 - share) + after[:16] * share).astype(np.uint8)
    path = written(tmp_path / "a.mp4", np.concatenate([before[:44], mixed, after[16:]]))
    (first, second) = find_clips(path, probe(path), find_dissolves=True)
    assert abs(first.end_frame - 44) <= 6 and abs(second.start_frame - 60) <= 6
    spoil(path, slice(38, 40))
    (whole,) = find_clips(path, probe(path), find_dissolves=True)
    assert (whole.start_frame, whole.end_frame) == (0, 104), "damage is none"
