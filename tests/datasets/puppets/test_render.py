"""The drawn dancers: are picture, keypoints, parts and boxes the truth about one another?"""

import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.datasets.puppets.camera import camera
from posedance.datasets.puppets.motion import LOWER, UPPER
from posedance.datasets.puppets.render import (
    DEMO_FRAMES,
    DEMO_SIZE,
    OCCLUDED_SCORE,
    PARTS,
    PuppetFrame,
    make_character,
    make_framing,
    make_motion,
    reference_pose,
    render,
    write_demo,
)
from posedance.datasets.puppets.skeleton import joints_133, skeleton
from posedance.stages.media.picture import read_picture

FPS = Fraction(15)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_WRIST, RIGHT_WRIST = 5, 6, 9, 10
HANDS = slice(91, 112), slice(112, 133)
WHOLE_BODY = dataclasses.replace(make_framing(0), zoom=1.0, centre=0.5, floor=0.9)


def draw(character: int, motion: int, frame: int, width: int = 144, height: int = 256) -> PuppetFrame:
    return render(make_character(character), make_motion(motion, FPS), frame, width, height, WHOLE_BODY)


def share_on(drawn: PuppetFrame, points: np.ndarray, names: set[str]) -> float:
    """Share of points [n, 2] inside the frame whose pixel belongs to one of these parts."""
    height, width = drawn.parts.shape
    column, row = np.round(points).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = [PARTS[part] in names for part in drawn.parts[row[inside], column[inside]]]
    return float(np.mean(found)) if found else 1.0


def test_the_same_seeds_draw_the_same_bits() -> None:
    first, second = draw(3, 4, 7), draw(3, 4, 7)
    for field in dataclasses.fields(PuppetFrame):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_other_seeds_draw_others() -> None:
    still = reference_pose(0)
    images = [render(make_character(seed), still, 0, 48, 80, WHOLE_BODY).image for seed in range(5)]
    poses = [make_motion(seed, FPS).pose(10).arms for seed in range(5)]
    stands = [reference_pose(seed).pose(0).arms for seed in range(5)]
    for first in range(5):
        for second in range(first):
            assert np.abs(images[first].astype(int) - images[second]).mean() > 5
            assert np.abs(poses[first] - poses[second]).max() > 0.05
            assert np.abs(stands[first] - stands[second]).max() > 0.01


@settings(max_examples=25, deadline=None)
@given(
    character=st.integers(0, 10**6),
    motion=st.integers(0, 10**6),
    frame=st.integers(0, 10**5),
    size=st.sampled_from([(64, 96), (96, 64), (128, 192), (37, 53)]),
)
def test_any_character_dances_any_motion(
    character: int, motion: int, frame: int, size: tuple[int, int]
) -> None:
    width, height = size
    drawn = render(make_character(character), make_motion(motion, FPS), frame, width, height)
    assert drawn.image.shape == (height, width, 3) and drawn.image.dtype == np.uint8
    assert drawn.parts.shape == (height, width) and drawn.parts.dtype == np.uint8
    assert drawn.parts.max() < len(PARTS)
    assert drawn.keypoints.shape == (133, 2) and drawn.keypoints.dtype == np.float32
    assert drawn.scores.shape == (133,) and drawn.scores.dtype == np.float32
    assert drawn.hand_boxes.shape == (2, 4)
    assert np.isfinite(drawn.keypoints).all()
    assert set(np.unique(drawn.scores)) <= {np.float32(0), np.float32(OCCLUDED_SCORE), np.float32(1)}
    column, row = np.floor(drawn.keypoints + 0.5).T
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    np.testing.assert_array_equal(drawn.scores == 0, outside)
    for hand, box in zip(HANDS, drawn.hand_boxes, strict=True):
        seen = drawn.keypoints[hand][drawn.scores[hand] > 0]
        assert (seen >= box[:2] - 0.5).all() and (seen <= box[2:]).all()
        assert (box >= 0).all() and box[2] <= width and box[3] <= height
        assert box.any() == bool(len(seen))


def test_left_is_the_dancers_own_left() -> None:
    for seed in range(8):
        drawn = render(make_character(seed), reference_pose(seed), 0, 96, 160, WHOLE_BODY)
        x = drawn.keypoints[:, 0]
        for left, right in ((1, 2), (3, 4), (5, 6), (7, 8), (11, 12), (15, 16), (17, 20), (91, 112)):
            assert x[left] > x[right]
        assert x[23] < x[39]  # iBUG's jaw starts at the image's left
        for side, hand in zip(("left", "right"), HANDS, strict=True):
            column = np.nonzero(drawn.parts == PARTS.index(f"{side}_hand"))[1]
            assert abs(column.mean() - x[hand].mean()) < 4


def test_seen_keypoints_lie_on_their_parts() -> None:
    shares: dict[str, list[float]] = {}
    for seed in range(24):
        drawn = draw(seed, seed + 50, 11 * seed, 288, 512)
        seen = drawn.scores == 1
        for side, index in (("left", 0), ("right", 1)):
            arm = {f"{side}_arm", f"{side}_sleeve", f"{side}_hand"}
            leg = {f"{side}_leg", f"{side}_calf", f"{side}_shoe", "hips"}
            toes = slice(17 + 3 * index, 20 + 3 * index)
            for name, points, parts in (
                ("hand", slice(HANDS[index].start, HANDS[index].stop), {f"{side}_hand", *arm}),
                ("elbow", slice(7 + index, 8 + index), arm),
                ("knee", slice(13 + index, 14 + index), leg),
                ("foot", toes, {f"{side}_shoe", f"{side}_leg"}),
            ):
                shares.setdefault(name, []).append(
                    share_on(drawn, drawn.keypoints[points][seen[points]], parts)
                )
        shares.setdefault("face", []).append(
            share_on(drawn, drawn.keypoints[24:91][seen[24:91]], {"head", "hair"})
        )
    for name, values in shares.items():
        assert np.mean(values) > 0.93, f"{name}: {np.mean(values):.3f}"


def test_covered_keypoints_are_hidden_by_another_part() -> None:
    behind = 0
    for seed in range(30):
        drawn = draw(seed, seed, 9 * seed, 96, 160)
        for side, hand in zip(("left", "right"), HANDS, strict=True):
            covered = drawn.keypoints[hand][drawn.scores[hand] == np.float32(OCCLUDED_SCORE)]
            others = set(PARTS) - {"background", f"{side}_hand"}
            if len(covered) > 15:  # nearly the whole hand
                behind += 1
                assert share_on(drawn, covered, others) > 0.8
    assert behind


def test_clear_colours_where_the_light_falls() -> None:
    """The brightest tenth of a part is near its colour: metrics may look for it."""
    for seed in range(10):
        character = make_character(seed)
        drawn = render(character, reference_pose(seed), 0, 288, 512, WHOLE_BODY)
        for name in ("left_hand", "right_hand", "left_shoe", "right_shoe", "head", "torso", "hips"):
            if name == "torso" and character.outfit.pattern != "plain":
                continue
            pixels = drawn.image[drawn.parts == PARTS.index(name)].astype(float)
            assert len(pixels) > 30, f"{name} of character {seed}"
            found, truth = np.median(pixels, 0), np.array(character.colours[name], float)
            cosine = found @ truth / np.linalg.norm(found) / np.linalg.norm(truth)
            assert cosine > 0.985, f"{name} of character {seed}: {found} for {truth}"


def test_a_motion_is_smooth_and_keeps_the_limits() -> None:
    for seed in range(6):
        motion = make_motion(seed, Fraction(30))
        body = make_character(seed).proportions
        points = []
        for frame in range(120):
            pose = motion.pose(frame)
            angles = np.concatenate([np.ravel(getattr(pose, f.name)) for f in dataclasses.fields(pose)])
            assert (angles >= LOWER).all() and (angles <= UPPER).all()
            points.append(joints_133(skeleton(body, pose), body.head))
        speed = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        assert speed.max() < 0.17, "a joint moved more than a sixth of the height in a thirtieth of a second"
        jerk = np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1)
        assert jerk.max() < 0.06
        assert np.median(speed[:, [LEFT_WRIST, RIGHT_WRIST]]) > 0.002, "nobody dances"


def test_time_does_not_depend_on_the_frame_rate() -> None:
    slow, fast = make_motion(5, Fraction(15)), make_motion(5, Fraction(30))
    np.testing.assert_allclose(slow.pose(9).arms, fast.pose(18).arms, atol=1e-12)


def test_dances_turn_cross_and_raise_arms() -> None:
    """Over many dances: narrow shoulders, arms above the head, crossing hands, fists and open hands."""
    widths, raised, crossed, curls = [], 0, 0, []
    for seed in range(40):
        body, motion = make_character(seed).proportions, make_motion(seed, FPS)
        for frame in range(0, 120, 15):
            pose = motion.pose(frame)
            points = joints_133(skeleton(body, pose), body.head)
            widths.append((points[LEFT_SHOULDER, 0] - points[RIGHT_SHOULDER, 0]) / (2 * body.shoulder))
            raised += points[LEFT_WRIST, 1] > points[0, 1]
            crossed += points[LEFT_WRIST, 0] < points[RIGHT_WRIST, 0]
            curls.append(pose.fingers[:, 1:5].mean())
    assert np.quantile(widths, 0.05) < 0.75 and np.quantile(widths, 0.5) > 0.85
    assert raised > 32 and crossed > 8
    assert np.quantile(curls, 0.1) < 0.15 and np.quantile(curls, 0.95) > 0.7


def test_a_standing_dancer_touches_the_floor() -> None:
    for seed in range(10):
        body = make_character(seed).proportions
        bones = skeleton(body, reference_pose(seed).pose(0))
        assert abs(bones.feet[..., 1].min()) < 0.03
        assert bones.skull[1] + body.head / 2 == pytest.approx(1.0, abs=0.06)
        for first, second, length in (
            (bones.hips, bones.knees, body.thigh),
            (bones.knees, bones.ankles, body.shin),
            (bones.shoulders, bones.elbows, body.upper_arm),
            (bones.elbows, bones.wrists, body.forearm),
        ):
            np.testing.assert_allclose(np.linalg.norm(first - second, axis=1), length, rtol=1e-6)


def test_a_closer_framing_shows_less_of_the_legs() -> None:
    character, still = make_character(2), reference_pose(2)
    close = dataclasses.replace(WHOLE_BODY, zoom=1.8)
    assert render(character, still, 0, 96, 160, WHOLE_BODY).scores[15:23].all()
    drawn = render(character, still, 0, 96, 160, close)
    assert not drawn.scores[15:23].any() and drawn.scores[:7].all()
    lens = camera(character.proportions, close, 96, 160)
    assert lens.scale == pytest.approx(1.8 * camera(character.proportions, WHOLE_BODY, 96, 160).scale)


@pytest.mark.slow
def test_the_demo_is_written(tmp_path) -> None:
    driving, reference = write_demo(tmp_path)
    width, height = DEMO_SIZE
    assert read_picture(reference).shape == (height, width, 3)
    with av.open(str(driving)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (width, height, FPS)
        assert sum(1 for _ in container.decode(stream)) == DEMO_FRAMES


@pytest.mark.slow
def test_mediapipe_finds_them() -> None:
    holistic = pytest.importorskip("mediapipe").solutions.holistic
    errors, hands = [], 0
    with holistic.Holistic(static_image_mode=True, model_complexity=1) as detector:
        for seed in range(6):
            drawn = draw(seed, seed + 100, 20, 576, 1024)
            found = detector.process(drawn.image)
            assert found.pose_landmarks and found.face_landmarks, f"character {seed}"
            hands += bool(found.left_hand_landmarks) + bool(found.right_hand_landmarks)
            joints = [found.pose_landmarks.landmark[index] for index in (11, 12, 13, 14, 23, 24, 25, 26)]
            truth = drawn.keypoints[[5, 6, 7, 8, 11, 12, 13, 14]]
            errors.append(np.hypot(*([(j.x * 576, j.y * 1024) for j in joints] - truth).T) / 1024)
    assert hands >= 7
    assert np.median(errors) < 0.015
