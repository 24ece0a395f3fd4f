"""Half bodies: where the picture cuts the dancer, what still shows of the dance, and how the rest stands."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from posedance.datasets.clips import ClipSpec, PuppetClips, draw_clip, draw_dance
from posedance.datasets.puppets.camera import camera
from posedance.datasets.puppets.half_body import CUTS, HalfBody, cut_framing, draw_half_body, standing
from posedance.datasets.puppets.render import PARTS, Framing, make_character, make_motion, reference_pose
from posedance.datasets.puppets.skeleton import skeleton
from posedance.stages.pose.shown import hidden_parts
from posedance.stages.types import PoseSequence

FPS = Fraction(15)
SIZE = (108, 192)
SPEC = ClipSpec(width=36, height=64, canvas=216, frames=2, spacing=4)
MOMENTS = range(0, 60, 6)
CHARACTER, STILL, MOTION = make_character(21), reference_pose(21), make_motion(16, FPS)


def dance(cut_in, cut, seed=0):
    half = draw_half_body(np.random.default_rng(seed), cut_in, cut)
    return half, draw_dance(CHARACTER, STILL, MOTION, MOMENTS, SIZE, half)


def poses(drawn) -> PoseSequence:
    points, scores = (np.stack([getattr(frame, name) for frame in drawn]) for name in ("keypoints", "scores"))
    return PoseSequence(points, scores, SIZE, FPS)


@pytest.mark.parametrize("size", [(108, 192), (192, 108), (96, 96)])
@pytest.mark.parametrize("cut", CUTS)
def test_the_lower_edge_lies_where_the_body_is_cut(cut, size) -> None:
    for seed in range(20):
        framing = replace(cut_framing(np.random.default_rng(seed), cut), pitch=0.0)
        lens = camera(make_character(seed).proportions, framing, *size)
        crown, edge = (float(lens(np.array([0.0, y, 0.0]))[1]) / size[1] for y in (1.0, framing.cut))
        assert crown == pytest.approx(framing.floor) and edge == pytest.approx(1)
        assert CUTS[cut][0] <= framing.cut <= CUTS[cut][1]


@pytest.mark.parametrize(("cut", "hidden"), [("knees", ["feet"]), ("waist", ["knees", "feet"])])
def test_a_cut_driving_picture_shows_no_more_than_its_picture(cut, hidden) -> None:
    half, (_, *drawn) = dance("driving", cut)
    assert half.reference is None and half.driving is not None
    assert hidden_parts(poses(drawn))[-len(hidden) :] == hidden
    legs = [PARTS.index(name) for name in ("left_shoe", "right_shoe")]
    assert all(np.isin(frame.parts, legs).any() for frame in drawn)  # the character has its feet nevertheless


def test_joints_just_outside_the_driving_picture_are_still_found() -> None:
    above_hips = Framing(zoom=1.0, centre=0.5, floor=0.3, pitch=0.0, cut=0.55)
    near, far = (
        draw_dance(CHARACTER, STILL, MOTION, [0], SIZE, HalfBody(above_hips, None, beyond))[1].scores
        for beyond in (0.0, 0.3)
    )
    hips, hands = slice(11, 13), slice(91, 133)
    assert near[hips].max() == 0 and far[hips].min() > 0
    np.testing.assert_array_equal(near[hands], far[hands])


def test_the_feet_of_a_cut_dancer_stand_as_the_references() -> None:
    def feet(motion, moment):
        return skeleton(CHARACTER.proportions, motion.pose(moment)).ankles

    still, stepping = feet(STILL, 0), make_motion(2, FPS)
    for moment in MOMENTS:
        np.testing.assert_allclose(
            feet(standing(stepping, STILL), moment)[:, [0, 2]], still[:, [0, 2]], atol=0.06
        )
    assert max(np.abs(feet(stepping, moment) - still).max() for moment in MOMENTS) > 0.1
    np.testing.assert_array_equal(standing(stepping, STILL).pose(30).arms, stepping.pose(30).arms)


def test_a_cut_reference_frames_the_dance_of_a_dancer_who_shows_all() -> None:
    _, (reference, *drawn) = dance("reference", "waist")
    assert hidden_parts(poses([reference]))[-2:] == ["knees", "feet"]
    for frame in drawn:
        assert frame.scores.min() > 0 and (frame.keypoints[15:17, 1] > SIZE[1]).all()


def test_a_share_of_the_clips_is_cut_and_the_others_are_as_without(tmp_path) -> None:
    some = replace(SPEC, half_body=0.5)
    whole, cut = PuppetClips(SPEC, 12, seed=1, cache=tmp_path), PuppetClips(some, 12, seed=1, cache=tmp_path)
    assert whole.folder != cut.folder
    same = [np.array_equal(whole[i].frames, cut[i].frames) for i in range(12)]
    assert 0 < sum(same) < 12
    first, second = (draw_clip(replace(SPEC, half_body=1.0), 3, 4, 5) for _ in range(2))
    np.testing.assert_array_equal(first.control, second.control)
    np.testing.assert_array_equal(first.frames, second.frames)
