"""The proof set says the truth about itself: where scenes are, what is wrong with them, what copies what."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from posedance.datasets.curation.proof import (
    COPIES,
    DARK,
    DISSOLVE,
    FADE,
    Joining,
    Planned,
    ProofSource,
    joined,
    make_plan,
    source_frames,
)
from posedance.datasets.curation.proof_scenes import SCENES, Shot, drawn, hands_down
from posedance.datasets.curation.scores import SCORES

FPS = Fraction(10)
SIZE = (54, 96)
SHORT = Fraction(4, 5)


@pytest.fixture(scope="module")
def plan() -> list[ProofSource]:
    return make_plan(60, 5)


def small(kinds: tuple[Joining, ...], *scenes: Planned) -> ProofSource:
    """A source of short scenes in small pictures."""
    return joined("a", FPS, SIZE, [replace(scene, seconds=SHORT) for scene in scenes], kinds)


def test_a_plan_follows_from_its_seed(plan: list[ProofSource]) -> None:
    assert make_plan(60, 5) == plan != make_plan(60, 6)
    assert sum(len(source.parts) for source in plan) >= 60


def test_every_filter_has_a_scene_that_is_meant_for_it(plan: list[ProofSource]) -> None:
    meant = {part.reasons[0] for source in plan for part in source.parts if part.reasons}
    assert meant == {score.name for score in SCORES}


def test_scenes_and_joins_lie_side_by_side(plan: list[ProofSource]) -> None:
    for source in plan:
        assert source.parts[0].start == 0
        for (before, after), join in zip(pairwise(source.parts), source.joins, strict=True):
            assert (before.end, after.start) == (join.start, join.end)


def test_no_scene_fades_from_black_to_black() -> None:
    beside_black = {
        join.kind
        for seed in range(8)
        for source in make_plan(60, seed)
        for pair, join in zip(pairwise(source.parts), source.joins, strict=True)
        if any(part.scene == "black" for part in pair)
    }
    assert beside_black == {"cut"}


@pytest.mark.parametrize("seed", [3, 1200016])
def test_who_stands_behind_a_wall_raises_no_hand_over_it(seed: int) -> None:
    shot = Shot(SIZE, FPS, 1, seed)
    (frame,) = drawn(shot, motion=hands_down(shot, 0.15))
    assert frame.keypoints[9:11, 1].min() > frame.keypoints[5:7, 1].max()


def test_each_copy_is_of_a_scene_with_nothing_wrong(plan: list[ProofSource]) -> None:
    parts = [part for source in plan for part in source.parts]
    originals = {part.seed for part in parts if part.scene == "plain" and part.copy is None}
    copies = [part for part in parts if part.copy in COPIES]
    assert len(copies) == 2 * len(COPIES) and {part.seed for part in copies} <= originals
    assert not any(part.reasons for part in copies)


def test_frames_are_what_the_plan_says() -> None:
    plain = Planned("plain", 3)
    source = small(("cut", "fade", "dissolve"), plain, replace(plain, seed=4), plain, plain)
    frames = np.stack(list(source_frames(source))).astype(int)
    (cut, fade, dissolve) = source.joins
    assert len(frames) == source.parts[-1].end and frames.shape[1:] == (96, 54, 3)
    assert abs(frames[cut.start] - frames[cut.start - 1]).mean() > 10
    assert (fade.end - fade.start, dissolve.end - dissolve.start) == (2 * FADE + DARK, DISSOLVE)
    assert frames[fade.start + FADE : fade.end - FADE].max() == 0 < frames[fade.start - 1].mean() - 20
    assert frames[fade.start + FADE - 2].mean() < frames[fade.start].mean() < frames[fade.start - 1].mean()


@pytest.mark.parametrize("name", SCENES)
def test_each_scene_draws_what_is_asked_for(name: str) -> None:
    frames = SCENES[name].draw(Shot(SIZE, FPS, 3, 1))
    assert (frames.shape, frames.dtype) == ((3, 96, 54, 3), np.uint8)


def test_a_van_hides_the_dancer_between_looks_for_people() -> None:
    shot = Shot(SIZE, Fraction(20), 30, 1)
    hidden = abs(SCENES["passed_by"].draw(shot).astype(int) - SCENES["plain"].draw(shot)).mean((1, 2, 3)) > 0
    assert hidden[15:24].all() and not hidden[:14].any() and not hidden[25:].any()


@pytest.mark.parametrize("copy", COPIES)
def test_copies_differ_from_their_scene_and_show_it(copy: str) -> None:
    plain = Planned("plain", 3)
    source = small(("cut",), plain, replace(plain, copy=copy))
    frames = np.stack(list(source_frames(source))).astype(int)
    first, second = (frames[part.start : part.end] for part in source.parts)
    assert first.shape == second.shape and abs(first - second).max() > 20
    if copy == "mirrored":
        assert abs(first - second[:, :, ::-1]).mean() < 3
    if copy in ("encoded", "logo"):
        assert abs(first - second).mean() < 12
