"""MediaPipe: its layout and errors, two people in a frame, stills, who is followed, and hands found again."""

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.media.picture import fit_cover, read_picture
from posedance.stages.media.video import Clip, read_frames
from posedance.stages.pose.estimate import mediapipe as backend
from posedance.stages.pose.estimate.body_model import (
    BUNDLED,
    IN_TASK,
    OF_HANDS,
    is_body_model,
    read_body_model,
)
from posedance.stages.pose.estimate.mediapipe import BUNDLED_MODEL, MediaPipeEstimator, bundled
from posedance.stages.pose.estimate.mediapipe_graph import BODY, DETECTOR, Graph, without_noise
from posedance.stages.pose.estimate.mediapipe_hands import Hands, KnownHands
from posedance.stages.pose.estimate.mediapipe_layout import BODY_FROM_POSE, FACE_FROM_MESH, whole_body
from posedance.stages.pose.estimate.mediapipe_people import (
    People,
    Person,
    Stills,
    choose,
    regions_of,
    same_body,
    upright,
)
from posedance.stages.pose.estimate.second_look import (
    LEFT,
    TURNED_AFTER,
    Hand,
    Side,
    Square,
    arm_square,
    bent_squares,
    hand_square,
)
from posedance.stages.pose.estimators import why_unusable
from posedance.stages.pose.follow.track import estimate_poses
from posedance.stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND


@pytest.fixture(scope="module")
def estimator() -> Iterator[MediaPipeEstimator]:
    reason = why_unusable("mediapipe")
    if reason:
        pytest.skip(reason)
    made = MediaPipeEstimator()
    made.setup()
    yield made
    made.close()


@pytest.fixture(scope="module")
def network(estimator: MediaPipeEstimator) -> bytes:
    """The wheel's network of bodies."""
    return read_body_model(bundled(BUNDLED))


def test_layout_puts_each_part_in_its_place():
    pose = np.column_stack([np.arange(33) / 100, np.arange(33) / 50, np.linspace(0, 1, 33)])
    hand = np.linspace(0, 0.2, 42).reshape(21, 2)
    mesh = np.random.default_rng(0).uniform(0, 1, (478, 2))
    points, scores = whole_body(pose, hand, None, mesh, (200, 100))
    np.testing.assert_allclose(points[:17, 0], 2 * np.array(BODY_FROM_POSE), rtol=1e-6)
    np.testing.assert_allclose(points[17:23, 1], 2 * np.array([31, 31, 29, 32, 32, 30]), rtol=1e-6)
    np.testing.assert_allclose(points[LEFT_HAND], hand * (200, 100), rtol=1e-6)
    np.testing.assert_allclose(points[FACE][30], mesh[4] * (200, 100), rtol=1e-6)
    assert not scores[RIGHT_HAND].any() and not points[RIGHT_HAND].any()
    np.testing.assert_allclose(scores[LEFT_HAND], (1 + pose[15, 2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(scores[:17], pose[list(BODY_FROM_POSE), 2], rtol=1e-6)


def test_face_map_has_68_different_vertices():
    assert len(FACE_FROM_MESH) == len(set(FACE_FROM_MESH)) == 68


def test_the_jaw_begins_beside_the_ears():
    assert (FACE_FROM_MESH[1], FACE_FROM_MESH[15]) == (234, 454)


def test_pictures_know_nothing_of_each_other(estimator: MediaPipeEstimator, samples: Path):
    picture = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    pictures = [picture, np.roll(picture, 3, axis=1), picture]
    estimator.start(static=True)
    first, shifted, again = estimator(pictures)
    assert (first.scores[0, [0, *range(91, 133)]] > 0.5).all()
    for a, b in ((first, again), (shifted, estimator([picture, pictures[1]])[1])):
        assert np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.scores, b.scores)


def test_a_person_head_down_is_found(estimator: MediaPipeEstimator, samples: Path):
    """Somebody whom the detector finds in the turned picture alone."""
    folder = samples / "coco_wholebody"
    truth = json.loads((folder / "annotations.json").read_text())
    one = next(person for person in truth["annotations"] if person["id"] == 230195)
    name = next(image["file_name"] for image in truth["images"] if image["id"] == one["image_id"])
    x, y, width, height = one["bbox"]
    left, top = max(0, int(x - 0.2 * width)), max(0, int(y - 0.2 * height))
    crop = read_picture(folder / name)[top : int(y + 1.2 * height), left : int(x + 1.2 * width)]
    picture = cv2.resize(crop[::-1, ::-1], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    detector = Graph(DETECTOR)
    assert not regions_of(detector, picture, 0)
    for static in (True, False):
        estimator.start(static=static)
        people = estimator([picture])[0]
        assert len(people) == 1
        points = np.array(one["keypoints"]).reshape(-1, 3)[:17]
        expected = picture.shape[1::-1] - 3 * (points[:, :2] - (left, top))
        away = np.linalg.norm(people.keypoints[0, :17] - expected, axis=1)[points[:, 2] > 0]
        assert (away < 0.1 * 3 * height).mean() > 0.7
    detector.close()


def test_points_of_turned_pictures_are_turned_back():
    picture = np.zeros((30, 50), int)
    picture[6, 40] = 1
    for turns in range(4):
        turned = np.rot90(picture, turns)
        y, x = (int(place[0]) for place in np.nonzero(turned))
        found = upright((x + 0.5) / turned.shape[1], (y + 0.5) / turned.shape[0], turns)
        np.testing.assert_allclose(found, (40.5 / 50, 6.5 / 30))


def test_one_person_is_followed_once(network: bytes, samples: Path):
    frame = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    people = People(Hands(), network)
    people.start()
    people.look([frame])
    (one,) = people._people
    region = type(one.region)()
    region.CopyFrom(one.region)
    region.x_center += 0.12 * region.width  # so far away that a new detection counts as somebody else
    people._people.append(Person(network, region))
    assert len(people.look([frame])[0]) == 1
    assert people._people == [one]
    people.close()


def test_bodies_are_one_where_their_joints_are():
    body = np.random.default_rng(0).uniform((0, 0), (100, 300), (17, 2))
    assert same_body(body, body + 20) and not same_body(body, body + np.array([80, 0]))


def test_known_people_keep_their_place():
    """A dancer who crouches beside two who stand; but not beside one who is far larger."""

    def region(x: float, height: float) -> SimpleNamespace:
        return SimpleNamespace(x_center=x, y_center=0.5, height=height)

    frame = np.zeros((100, 100, 3), np.uint8)
    dancer, other = region(0.5, 0.3), region(0.1, 0.5)
    assert choose([dancer], [region(0.52, 0.3)], frame) == [0]
    assert choose([dancer, other], [region(0.9, 0.5)], frame) == [1, 0]
    assert choose([dancer, other], [region(0.9, 0.7)], frame) == [1, 2]


def test_hands_are_found_at_their_own_wrists_alone(network: bytes, samples: Path):
    """Of a person who shows both hands; then left and right of the body are exchanged."""
    picture = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    hands = Hands()
    stills = Stills(hands, network)
    found = stills.look(picture)
    keypoints, scores = found.keypoints[0], found.scores[0]
    assert (scores[91:] >= 0.5).all()
    (pose,) = stills._bodies(picture)
    body, seen = keypoints.copy(), scores.copy()
    body[[7, 8, 9, 10]] = keypoints[[8, 7, 10, 9]]
    body[91:], seen[91:] = 0, 0
    hands(picture, pose, body, seen, KnownHands())
    assert not seen[91:].any() and not body[91:].any()
    stills.close()
    hands.close()


def test_a_hand_that_holistic_misses_is_found(estimator: MediaPipeEstimator, samples: Path):
    """A right hand that hangs at the side, seen edge on."""
    frame = next(read_frames(samples / "driving_02.mp4", Clip(start=Fraction(38, 30))))
    estimator.start(static=True)
    people = estimator([frame])[0]
    hand, wrist, elbow = people.keypoints[0, RIGHT_HAND], *people.keypoints[0, [10, 8]]
    assert (people.scores[0, RIGHT_HAND] >= 0.5).all()
    forearm = np.linalg.norm(wrist - elbow)
    assert np.linalg.norm(hand[0] - wrist) < 0.3 * forearm
    assert (hand[[8, 12, 16, 20], 1] > wrist[1] + 0.3 * forearm).all()  # fingers point down


def test_a_hand_is_looked_for_where_it_was(monkeypatch: pytest.MonkeyPatch):
    """Where it was a frame ago, moved with the wrist; by the body, along the forearm, and to either side."""
    keypoints, scores = np.zeros((133, 2), np.float32), np.zeros(133, np.float32)
    keypoints[[7, 9]], scores[[7, 9]] = ((100, 100), (100, 200)), 1
    hand = np.random.default_rng(0).uniform(-20, 20, (21, 2)).astype(np.float32) + np.array([90, 210])
    hand[0] = (95, 205)
    known = KnownHands()
    known.last[9] = hand, np.array([90, 190], np.float32)
    asked: list[Square | str] = []

    def absent(self: Hands, frame: np.ndarray, where: Square | str, side: Side) -> Hand:
        asked.append(where)
        return Hand(hand, 0.05, 1.0)

    monkeypatch.setattr(Hands, "_look", absent)
    monkeypatch.setattr(Hands, "_look_in", absent)
    monkeypatch.setattr(Hands, "_region_of_pose", lambda *_: "by the body")
    monkeypatch.setattr(Hands, "_palm_squares", lambda *_: [])
    Hands()(np.zeros((300, 300, 3), np.uint8), None, keypoints, scores, known)
    along = arm_square(keypoints, scores, LEFT)
    assert asked == [hand_square(hand + 10), "by the body", along, *bent_squares(along)]
    assert not known.last


def test_a_hand_is_not_turned_over_from_frame_to_frame(monkeypatch: pytest.MonkeyPatch):
    """But where it is surely the other way round, or after a while."""
    keypoints, scores = np.zeros((133, 2), np.float32), np.ones(133, np.float32)
    hand = np.random.default_rng(0).uniform(-20, 20, (21, 2)).astype(np.float32)
    hand[[0, 5, 9, 17]] = ((0, 0), (-30, -80), (0, -100), (40, -70))
    turned = hand * np.array([-1, 1], np.float32)
    known, hands, given = KnownHands(), Hands(), []
    monkeypatch.setattr(Hands, "_candidates", lambda *_: iter(given))

    def found(*candidates: Hand) -> np.ndarray:
        keypoints[LEFT_HAND], given[:] = 0, candidates
        hands.find(np.zeros((9, 9, 3), np.uint8), None, keypoints, scores, known, LEFT)
        return keypoints[LEFT_HAND]

    assert np.array_equal(found(Hand(hand, 1, 0.9)), hand)
    assert not found(Hand(turned, 1, 0.5)).any()
    assert np.array_equal(found(Hand(turned, 1, 0.5), Hand(hand, 1, 0.5)), hand)
    assert np.array_equal(found(Hand(turned, 1, 0.9)), turned)
    for _ in range(TURNED_AFTER):
        assert not found(Hand(hand, 1, 0.5)).any()
    assert np.array_equal(found(Hand(hand, 1, 0.5)), hand)


def test_frames_give_the_same_alone_and_together(estimator: MediaPipeEstimator, samples: Path):
    """Whatever thread is ahead of which: hands, faces and bodies of different frames are found at once."""
    picture = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    frames = [np.roll(picture, 3 * step, axis=1) for step in range(5)]
    estimator.start()
    alone = [estimator([frame])[0] for frame in frames]
    estimator.start()
    for a, b in zip(alone, estimator(frames), strict=True):
        assert (a.scores[0, 91:] >= 0.5).all()
        assert np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.scores, b.scores)


def test_a_body_is_the_same_without_its_outline(network: bytes, samples: Path):
    """By MediaPipe's own graph, which draws the outline too, and from a pose landmarker's .task file."""
    picture = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    detector, whole, lean = Graph(DETECTOR), Graph(BODY), Graph(BODY, network)
    (region,) = regions_of(detector, picture, 0)
    for _ in range(2):
        found = [graph(image=picture, region=region) for graph in (whole, lean)]
        assert found[0].pose == found[1].pose and found[0].next_region == found[1].next_region
    for graph in (detector, whole, lean):
        graph.close()
    assert len(network) < bundled(BUNDLED).stat().st_size


def test_a_network_of_bodies_is_taken_from_a_file(
    estimator: MediaPipeEstimator, network: bytes, samples: Path, tmp_path: Path
):
    """The wheel's own, packed as a pose landmarker's .task file: BlazePose heavy has the same shapes."""
    task, wrong, broken, other = (tmp_path / name for name in ("a.task", "b.task", "c.tflite", "d.tflite"))
    model = bundled(BUNDLED).read_bytes()
    for path, names in ((task, ("pose_detector.tflite", IN_TASK)), (wrong, (IN_TASK, OF_HANDS))):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, model)
    assert is_body_model(task) and not is_body_model(wrong)
    assert read_body_model(task) == network
    picture = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    with closing(MediaPipeEstimator(task)) as ours:
        ours.setup()
        for one in (ours, estimator):
            one.start(static=True)
        assert np.array_equal(ours([picture])[0].keypoints, estimator([picture])[0].keypoints)
    broken.write_bytes(model[: len(model) // 2])
    other.write_bytes(bundled(BUNDLED_MODEL).read_bytes())
    for path, why in (
        (broken, "it is cut off"),
        (other, r"have the shapes \[\[1, 256, 256, 3\], \[1, 1, 1, 4\]\]"),
    ):
        with pytest.raises(PoseError, match=f"{path.name} cannot be used as BlazePose's network.*{why}"):
            MediaPipeEstimator(path).setup()


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_larger_of_two_people_is_followed(estimator: MediaPipeEstimator, samples: Path, mirrored: bool):
    large = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    small = cv2.resize(large, (172, 306), interpolation=cv2.INTER_AREA)
    both = np.full((512, 460, 3), 200, np.uint8)
    both[:, :288] = large
    both[206:, 288:] = small
    if mirrored:
        both = np.ascontiguousarray(both[:, ::-1])
    frames = [np.roll(both, shift, axis=0) for shift in (0, 2, 4, 6, 8, 6, 4, 2)]
    poses, report = estimate_poses(
        frames, estimator, fps=Fraction(30), min_score=0.3, max_gap=2, name="two people"
    )
    assert report.people == 2 and report.missing == 0
    x = 0.54 * 288
    np.testing.assert_allclose(poses.keypoints[:, 0, 0], 460 - x if mirrored else x, atol=15)


def test_package_without_models_asks_for_a_task_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    spec = ModuleSpec("mediapipe", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(backend, "find_spec", lambda name: spec)
    assert "holistic_landmarker.task" in (why_unusable("mediapipe") or "")
    (tmp_path / "a.task").write_bytes(b"model")
    assert why_unusable("mediapipe", model=tmp_path / "a.task") is None
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    assert "not installed" in (why_unusable("mediapipe") or "")


def test_the_gpu_is_for_task_files_alone(tmp_path: Path):
    if why_unusable("mediapipe"):
        pytest.skip("mediapipe is not installed")
    (tmp_path / "a.task").write_bytes(b"not a model")
    for model, device in ((None, "cuda"), (tmp_path / "a.task", "cuda:1")):
        with pytest.raises(PoseError, match=f"it does not work on estimator.device {device}: use cpu"):
            MediaPipeEstimator(model, device).setup()
    estimator = MediaPipeEstimator(tmp_path / "a.task", "cuda")
    estimator.setup()
    with pytest.raises(PoseError, match=r"on the GPU: use estimator\.device cpu"):
        estimator.start()


def test_file_that_is_no_task_is_refused(tmp_path: Path):
    if why_unusable("mediapipe"):
        pytest.skip("mediapipe is not installed")
    (tmp_path / "a.task").write_bytes(b"not a model")
    estimator = MediaPipeEstimator(tmp_path / "a.task")
    estimator.setup()
    with pytest.raises(PoseError, match=r"a\.task cannot be used as a holistic landmarker"):
        estimator.start()


def test_start_up_noise_is_dropped_and_other_lines_are_kept(capfd: pytest.CaptureFixture[str]):
    with without_noise():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nthe disk is full\n")
    assert capfd.readouterr().err == "the disk is full\n"


def test_what_threads_hold_back_of_stderr_at_one_time_comes_in_the_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The second enters while the first holds stderr, and leaves after it."""
    first, second = without_noise(), without_noise()
    first.__enter__()
    second.__enter__()
    os.write(2, b"a warning\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    first.__exit__(None, None, None)
    assert capfd.readouterr().err == ""
    second.__exit__(None, None, None)
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "a warning\nlater\n"
