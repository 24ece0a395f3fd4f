"""The figure of paper: cut out, whole where it bends, its head and hands in shape."""

from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import pytest

from posedance.datasets.puppets.render import PuppetFrame, make_character, make_motion, reference_pose, render
from posedance.stages.pose.animatic import bones, cut, figure, mesh
from posedance.stages.pose.animatic import inside as inside_of
from posedance.stages.pose.animatic.figure import PaperFigure
from posedance.stages.types import PoseSequence

SIZE = (216, 384)
FACE = slice(23, 91)


@cache
def dancer(number: int = 3) -> PuppetFrame:
    return render(make_character(number), reference_pose(number), 0, *SIZE)


@cache
def paper(number: int = 3) -> PaperFigure:
    still = dancer(number)
    own = PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    return PaperFigure(still.image, own, (still.parts > 0).astype(np.float32))


@cache
def in_red() -> PaperFigure:
    """The figure with paper of one colour, before a background of another."""
    still = dancer()
    inside = still.parts > 0
    own = PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    red = np.where(inside[..., None], (255, 0, 0), (0, 255, 255)).astype(np.uint8)
    return PaperFigure(red, own, inside.astype(np.float32))


@pytest.mark.parametrize(("network", "least"), [(True, 0.92), (False, 0.9)])
def test_a_drawn_dancer_is_cut_out(network: bool, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if not network:
        monkeypatch.setattr(cut, "person_in", lambda picture: None)
    still = dancer()
    found, truth = cut.cut_out(still.image, still.keypoints, still.scores) > 0.5, still.parts > 0
    assert (found & truth).sum() / (found | truth).sum() > least


def test_nobody_is_cut_out_without_shoulders() -> None:
    still = dancer()
    assert not cut.cut_out(still.image, still.keypoints, np.zeros(133)).any()


def test_in_its_own_pose_the_figure_is_its_picture() -> None:
    still = dancer()
    drawn = paper().draw(still.keypoints, still.scores)
    inside = cv2.erode((still.parts > 0).astype(np.uint8), np.ones((5, 5))) > 0
    off = np.abs(drawn.astype(int) - still.image).max(-1)[inside]
    assert off.mean() < 2 and np.quantile(off, 0.98) < 16


@pytest.mark.parametrize("motion", [1, 9])
def test_a_figure_that_dances_stays_in_one_piece_without_holes(motion: int) -> None:
    """Arms that cross the body, or are raised beside the head, neither tear off nor tear the figure."""
    for frame in (0, 17, 40):
        pose = render(make_character(3), make_motion(motion, Fraction(15)), frame, *SIZE).keypoints
        inside = (in_red().draw(pose, np.ones(133))[..., 0] > 155).astype(np.uint8)
        _, _, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        assert facts[1:, cv2.CC_STAT_AREA].max() > 0.995 * inside.sum()
        assert 0.75 < inside.sum() / (dancer().parts > 0).sum() < 1.35
        for x, y in pose[[5, 6, 7, 8, 11, 12, 13, 14]].round().astype(int):
            assert inside[y - 3 : y + 4, x - 3 : x + 4].any(), "a bone without paper"


def test_the_head_moves_as_one_and_keeps_its_shape_beside_a_raised_hand() -> None:
    still = dancer()
    own = paper()._own
    assert own is not None
    up = paper()._body.weights[0]
    face = still.keypoints[FACE]
    columns, rows = face[:, 0] / (SIZE[1] * 8 / 1024), face[:, 1] / (SIZE[1] * 8 / 1024)
    assert (up[rows.round().astype(int), columns.round().astype(int)] > 0.999).all()
    pose = still.keypoints.copy()
    pose[[7, 9]] = pose[[1, 2]] + [[14, 8], [6, 0]]  # a hand at the eyes
    now = bones.skeleton_of(pose, still.scores)
    assert now is not None
    turn = bones.turn_head(own, now, bones.turn_trunk(own.trunk, now.trunk))
    assert turn.stretch == bones.RIGID and abs(turn.angle) < 0.01


def test_a_head_seen_from_behind_stays_upright() -> None:
    still = dancer()
    pose = still.keypoints.copy()
    pose[[1, 2, 3, 4]] = pose[[2, 1, 4, 3]]
    own, now = bones.skeleton_of(still.keypoints, still.scores), bones.skeleton_of(pose, still.scores)
    assert own is not None and now is not None
    assert abs(bones.turn_head(own, now, bones.turn_trunk(own.trunk, now.trunk)).angle) < 0.2


def test_a_head_leans_no_further_than_a_neck_allows() -> None:
    still = dancer()
    own = bones.skeleton_of(still.keypoints, still.scores)
    assert own is not None
    points = own.points.copy()
    head = list(bones.HEAD)
    points[head] = own.trunk.neck + (points[head] - own.trunk.neck) * np.exp(2j)
    now = bones.Skeleton(points, own.seen, own.trunk)
    turn = bones.turn_head(own, now, bones.turn_trunk(own.trunk, now.trunk))
    assert turn.angle == pytest.approx(bones.HEAD_TILT)


def test_limbs_reach_their_joints_and_hands_keep_their_shape() -> None:
    own, now = np.array([0, 10j, 22j]), np.array([3 + 1j, 14 + 3j, 14 - 8j])
    trunk = bones.Turn(0, 3 + 1j, 0.2)
    upper, lower, hand = bones.turn_limb(own, now, trunk, 40j, -1)
    np.testing.assert_allclose([upper(0), upper(10j), lower(22j), hand(22j)], [*now, now[2]])
    grown = hand(np.array([23j, 22j + 1])) - now[2]
    np.testing.assert_allclose(np.abs(grown), 1)
    np.testing.assert_allclose(np.angle(grown[0]), np.angle(now[2] - now[1]))


@pytest.mark.parametrize("degrees", [80, 179, 181, 200])
def test_an_arm_is_raised_outwards_and_not_through_the_body(degrees: int) -> None:
    """Beyond straight up it must not jump to the other way round: its shoulder would turn inside out."""
    for side, outwards in ((1, 1), (-1, -1)):
        now = np.array([0, 10j]) * np.exp(1j * np.radians(degrees) * outwards)
        upper, _ = bones.turn_limb(np.array([0, 10j]), now, bones.Turn(0, 0, 0.0), 40j, side)
        assert upper.angle == pytest.approx(np.radians(degrees) * outwards)


def test_a_raised_arm_comes_down_on_its_own_side() -> None:
    """From 100 degrees out to 100 degrees across the body is 200 back, not 160 on over the head."""
    own, now = (np.array([0, 10j]) * np.exp(1j * np.radians(degrees)) for degrees in (100, -100))
    upper, _ = bones.turn_limb(own, now, bones.Turn(0, 0, 0.0), 40j, 1)
    assert upper.angle == pytest.approx(np.radians(-200))


def test_an_arm_follows_its_bone_alone_below_the_shoulder() -> None:
    """Also beside it, where nothing is seen: squares of the mesh that reach out there would tear."""
    figure_of, own = paper(), paper()._own
    assert own is not None
    for number, layer in figure_of._arms:
        root, below = own.points[list(bones.ARMS[number])][:2]
        along = np.real((figure_of._points - root) * np.conj(below - root)) / abs(below - root) ** 2
        assert (layer.weights[0][along > 0.35] == 1).all()


def test_an_elbow_bends_without_collapsing() -> None:
    """In plain linear blend skinning the skin of a joint that turns by 150 degrees shrinks to a quarter."""
    parent, child = bones.Turn(0, 0, 0.0), bones.Turn(10j, 10j, np.radians(150))
    beside = np.array([10j + 3, 10j - 3])
    moved = bones.blended(beside, parent, child, np.array([0.5, 0.5]))
    np.testing.assert_allclose(np.abs(moved - 10j), 3)


def test_a_mesh_covers_every_pixel_once_bent() -> None:
    points = mesh.lattice(60, 40, 8)
    cells = np.ones((points.shape[0] - 1, points.shape[1] - 1), bool)
    before = mesh.triangles(points, cells)
    now = (before * np.exp(0.3j)) * 1.7 + 20 - 10j
    source = np.full((60, 100, 2), mesh.NOWHERE, np.float32)
    mesh.fill(source, now, before)
    places = np.arange(100) + 1j * np.arange(60)[:, None]
    back = (places - 20 + 10j) / 1.7 * np.exp(-0.3j)
    width, height = points.real.max(), points.imag.max()
    inside = (back.real > 0) & (back.imag > 0) & (back.real < width) & (back.imag < height)
    np.testing.assert_allclose(source[inside][:, 0], back[inside].real, atol=0.05)
    np.testing.assert_allclose(source[inside][:, 1], back[inside].imag, atol=0.05)
    assert inside.sum() > 1000 and (source[~inside] == mesh.NOWHERE).mean() > 0.98


def test_no_trace_of_the_figure_is_left_behind_it() -> None:
    still = dancer()
    inside = still.parts > 0
    painted = np.full_like(still.image, 90)
    painted[cv2.dilate(inside.astype(np.uint8), np.ones((3, 3))) > 0] = (250, 20, 20)  # with a seam
    own = PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    shown = PaperFigure(painted, own, inside.astype(np.float32))
    assert np.abs(shown.draw(still.keypoints, np.zeros(133)).astype(int) - 90).max() <= 2


def test_a_figure_that_the_picture_cuts_off_goes_on_below() -> None:
    still = dancer()
    half = still.keypoints[11:13, 1].mean().round().astype(int) + 30
    own = PoseSequence(still.keypoints[None], still.scores[None], (SIZE[0], int(half)), Fraction(1))
    shown = PaperFigure(still.image[:half], own, (still.parts[:half] > 0).astype(np.float32))
    risen = still.keypoints - [0, 40]
    drawn, bare = shown.draw(risen, still.scores), shown.draw(risen, np.zeros(133))
    assert (np.abs(drawn.astype(int) - bare).max(-1)[-3:] > 20).any(), "the figure floats above the edge"


def test_a_bust_keeps_its_shoulders_beside_a_dancer_with_hips() -> None:
    still = dancer()
    scores = still.scores.copy()
    scores[11:17] = 0
    own = PoseSequence(still.keypoints[None], scores[None], SIZE, Fraction(1))
    shown = PaperFigure(still.image, own, (still.parts > 0).astype(np.float32))
    np.testing.assert_array_equal(
        shown.draw(still.keypoints, np.ones(133)), shown.draw(still.keypoints, scores)
    )


def test_a_character_without_a_body_stands_still() -> None:
    still = dancer()
    own = PoseSequence(still.keypoints[None], np.zeros((1, 133)), SIZE, Fraction(1))
    shown = PaperFigure(still.image, own)
    np.testing.assert_array_equal(shown.draw(still.keypoints, still.scores), still.image)


def test_distances_go_round_what_is_not_of_the_figure() -> None:
    inside = np.ones((9, 9), bool)
    inside[:8, 4] = False  # a wall with a way below
    start = np.where(np.indices((9, 9))[1] == 0, 0, figure.FAR)[None]
    start[0, 1:] = figure.FAR
    found = inside_of.spread(start, inside, np.zeros((9, 9, 3), np.float32))[0]
    assert found[0, 3] == 3 and found[0, 8] > 15 and found[0, 4] == figure.FAR
