"""Following one person: size and constancy, gaps, cuts, and what is reported."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.pose.base import Detections, detections
from posedance.stages.pose.follow import people as linking
from posedance.stages.pose.follow import person as choosing
from posedance.stages.pose.follow.people import person_score
from posedance.stages.pose.follow.person import follow
from posedance.stages.pose.follow.track import BATCH, estimate_picture, estimate_poses

SIZE = (320, 240)
SHAPE = np.random.default_rng(0).uniform(0, 1, (133, 2))
"""A person of one by one, whole body."""

Person = tuple[np.ndarray, np.ndarray]


def person(x: float, y: float = 20, size: float = 100, score: float = 0.9) -> Person:
    return (SHAPE * size + (x, y)).astype(np.float32), np.full(133, score, np.float32)


class Recorded:
    """An estimator that gives what was recorded, one entry a frame, and keeps to the protocol."""

    def __init__(self, frames: list[list[Person]]) -> None:
        self.frames = frames
        self.position = 0
        self.static = False
        self.largest_batch = 0

    def missing(self) -> str | None:
        return None

    def setup(self) -> None:
        pass

    def start(self, *, static: bool = False) -> None:
        self.position = 0
        self.static = static

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        self.largest_batch = max(self.largest_batch, len(frames))
        part = self.frames[self.position : self.position + len(frames)]
        self.position += len(frames)
        return [detections(people, *SIZE) for people in part]

    def close(self) -> None:
        pass


def estimate(
    frames: list[list[Person]],
    max_gap: int = 3,
    min_score: float = 0.3,
    named: choosing.Person | None = None,
    smooth: float = 0,
):
    images = (np.zeros((SIZE[1], SIZE[0], 3), np.uint8) for _ in frames)
    options = {
        "min_score": min_score,
        "max_gap": max_gap,
        "name": "clip.mp4",
        "person": named,
        "smooth": smooth,
    }
    return estimate_poses(images, Recorded(frames), fps=Fraction(25), **options)


def test_one_person_comes_back_as_detected():
    poses, report = estimate([[person(10 + i)] for i in range(20)])
    assert poses.size == SIZE and poses.fps == 25 and len(poses) == 20
    np.testing.assert_allclose(poses.keypoints[7], SHAPE * 100 + (17, 20), atol=1e-4)
    assert (report.frames, report.missing, report.filled, report.people) == (20, 0, 0, 1)
    assert report.body == 1 and report.hands == 1 and report.left_hand_filled == 1


@pytest.mark.parametrize("order", [1, -1])
def test_larger_of_two_is_followed_whatever_their_order(order: int):
    frames = [[person(10 + i, size=120), person(180 - i, size=60)] for i in range(20)]
    frames = [people[:: order if i % 3 else -order] for i, people in enumerate(frames)]
    poses, report = estimate(frames)
    expected = SHAPE[None, :, 0] * 120 + 10 + np.arange(20)[:, None]
    np.testing.assert_allclose(poses.keypoints[..., 0], expected, atol=1e-3)
    assert report.people == 2


def test_constant_person_wins_over_a_large_passer_by():
    frames = [[person(10, size=80)] for _ in range(30)]
    for i in range(10, 16):
        frames[i].append(person(150, size=150, y=50))
    poses, report = estimate(frames)
    assert np.ptp(poses.keypoints[:, 0, 0]) < 1e-3 and report.people == 2


def test_people_who_cross_are_not_confused():
    frames = [[person(10 + 8 * i, size=100), person(200 - 8 * i, y=120, size=70)] for i in range(20)]
    poses, _ = estimate(frames)
    np.testing.assert_allclose(np.diff(poses.keypoints[:, 0, 0]), 8, atol=1e-3)


def test_person_who_returns_after_a_gap_or_jumps_is_still_followed():
    frames: list[list[Person]] = [[person(10)] for _ in range(10)]
    frames += [[] for _ in range(8)] + [[person(200)] for _ in range(10)]
    poses, report = estimate(frames)
    assert report.missing == 8 and report.filled == 0
    assert poses.keypoints[-1, 0, 0] == pytest.approx(SHAPE[0, 0] * 100 + 200, abs=1e-3)


def test_a_passer_by_is_not_taken_for_the_dancer_who_is_gone_for_a_frame():
    """The two stand 1.4 sizes apart: too far for one step."""
    dancer, other = person(10, size=90), person(140, size=60)
    frames = [[dancer]] * 8 + [[other]] + [[dancer, other]] * 8
    keypoints, scores = follow([detections(people, *SIZE) for people in frames])
    assert not scores[8].any()
    np.testing.assert_allclose(np.delete(keypoints, 8, 0)[:, 0], [SHAPE[0] * 90 + (10, 20)] * 16, atol=1e-3)


def test_people_seen_long_ago_are_no_candidates(monkeypatch: pytest.MonkeyPatch):
    """Work for a frame is bounded by who was seen lately, however many came and went before."""
    compared: list[int] = []

    def counted(from_points: np.ndarray, *others: np.ndarray) -> np.ndarray:
        compared.append(len(from_points))
        return steps(from_points, *others)

    steps = linking._growth
    monkeypatch.setattr(linking, "_growth", counted)
    rng = np.random.default_rng(1)
    frames = [[person(*rng.uniform(0, 280, 2), size=8)] for _ in range(400)]
    linking.link([detections(people, *SIZE) for people in frames])
    assert max(compared) <= linking.SEEN_LATELY and sum(compared) > 1000


def test_a_person_who_returns_later_than_lately_goes_on():
    frames: list[list[Person]] = [[person(10)]] * 5 + [[]] * (linking.SEEN_LATELY + 5) + [[person(12)]] * 5
    _, scores = follow([detections(people, *SIZE) for people in frames])
    assert scores[:5].all() and scores[-5:].all() and not scores[5:-5].any()


def followed(
    frames: list[list[Person]], named: choosing.Person | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where a person's first joint is [T] in x, NaN where the person is not seen, and the scores."""
    keypoints, scores = follow([detections(people, *SIZE) for people in frames], named, SIZE[0])
    return np.where(scores.any(1), keypoints[:, 0, 0] - SHAPE[0, 0] * 100, np.nan), scores


@pytest.mark.parametrize("hidden", [0, 20])
def test_two_who_cross_do_not_swap(hidden: int):
    """They look alike and cross at one height; one hides the other where they are so near."""
    paths = np.array([(20 + 8 * i, 200 - 8 * i) for i in range(24)])
    frames = [[person(a)] if abs(a - b) < hidden else [person(a), person(b)] for a, b in paths]
    frames = [people[:: 1 if i % 2 else -1] for i, people in enumerate(frames)]
    for named, path in (((70.0, 70.0), paths[:, 0]), ((250.0, 70.0), paths[:, 1])):
        x, _ = followed(frames, named)
        seen = ~np.isnan(x)
        np.testing.assert_allclose(
            x[seen], path[seen], atol=5
        )  # as one find where they are nearly at one place
        assert seen.sum() >= 24 - 4


def test_a_stranger_fills_no_gap():
    """Nor a long one, nor the rest of a video from which the dancer has gone."""
    dancer, stranger, other = person(10), person(230), person(110, 130, size=40)
    lately = linking.SEEN_LATELY
    videos = {
        "for a frame": ([[dancer]] * 5 + [[stranger]] + [[dancer]] * 5, 10),
        "for long": ([[dancer]] * 20 + [[stranger]] * (lately + 9) + [[dancer]] * 20, 40),
        "stays": ([[dancer, stranger]] * 20 + [[stranger]] * 10, 20),
        "comes later": ([[dancer, other]] * 20 + [[other]] * 5 + [[other, stranger]] * 10, 20),
        "comes at once": ([[dancer, other]] * 20 + [[other, stranger]] * 10, 20),
    }
    for frames, seen in videos.values():
        x, _ = followed(frames, 1)
        assert np.isfinite(x).sum() == seen
        np.testing.assert_allclose(x[np.isfinite(x)], 10, atol=1e-2)


def test_a_small_passer_by_behind_the_dancer_is_somebody_else():
    frames = [[person(10)]] * 5 + [[person(40, 40, size=30)]] + [[person(10)]] * 5
    x, _ = followed(frames)
    assert np.isnan(x[5]) and np.isfinite(np.delete(x, 5)).all()


def test_one_person_found_twice_is_one():
    """The first find goes on for a while beside the second, which is a little off, and then is gone."""
    frames = [
        [*([person(10 + i)] if i < 60 else []), *([person(15 + i, score=0.8)] if i >= 40 else [])]
        for i in range(100)
    ]
    x, _ = followed(frames)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x, 10 + np.arange(100), atol=5.1)
    assert estimate(frames)[1].people == 1


def test_a_track_is_not_refused_for_an_overlap_elsewhere():
    """Frames 40 to 59 only the second of three tracks shows, which ends beside the third."""
    frames = [[person(10)]] * 40 + [[person(70)]] * 20 + [[person(70), person(88)]] * 8
    x, _ = followed([*frames, *[[person(88)]] * 60])
    assert np.isfinite(x).all(), np.flatnonzero(np.isnan(x))


def test_who_is_alone_goes_on_after_a_cut_in_another_size():
    frames = [[person(10)]] * 20 + [[person(270, 200, size=30)]] * 20
    _, scores = followed(frames)
    assert scores.any(1).all()


def test_people_are_named_by_words_boxes_and_all():
    left, middle, right = person(10, size=80), person(120, size=60), person(220, size=95)
    frames = [[right, left], *[[middle, right, left]] * 9, [left, middle]]
    found = {"largest": 220, "right": 220, "left": 10, "center": 120}
    for word, x in found.items():
        keypoints, _ = follow([detections(people, *SIZE) for people in frames], word, SIZE[0])
        size = {10: 80, 120: 60, 220: 95}[x]
        np.testing.assert_allclose(keypoints[5, :, 0], SHAPE[:, 0] * size + x, atol=1e-2)
    box = (110.0, 10.0, 190.0, 90.0)
    assert choosing.find_person([detections(people, *SIZE) for people in frames], box) == (1, 0)
    everybody, few = choosing.follow_all([detections(people, *SIZE) for people in frames])
    assert few == 0 and [int(scores.any(1).sum()) for _, scores in everybody] == [11, 10, 10]


CROWD: list[list[Person]] = [[person(10, size=100)], *[[person(10, size=100), person(200, size=60)]] * 9]
"""A large dancer at the left, and from the second frame on a small one at the right."""


@pytest.mark.parametrize(
    ("named", "x", "first"),
    [(None, 10, 0), (1, 10, 0), (2, 200, 1), ((220.0, 40.0), 200, 1), ((60.0, 60.0), 10, 0)],
)
def test_the_person_who_is_named_is_followed(named: choosing.Person | None, x: float, first: int) -> None:
    people = [detections(frame[::-1], *SIZE) for frame in CROWD]  # in no particular order
    keypoints, scores = follow(people, named)
    wanted = SHAPE[:, 0] * (100 if x == 10 else 60) + x
    assert scores[first:].any(1).all()
    np.testing.assert_allclose(keypoints[first:, :, 0], [wanted] * (10 - first), atol=1e-3)


@pytest.mark.parametrize(
    ("named", "what"), [(3, "no person 3, of at most 2"), ((5.0, 235.0), "nobody at 5,235, of at most 2")]
)
def test_a_person_who_is_not_there_is_told(named: choosing.Person, what: str) -> None:
    with pytest.raises(PoseError, match=f"^clip.mp4: --person: there is {what} people.*from the left"):
        estimate(CROWD, named=named)


def test_short_gaps_are_interpolated_and_long_ones_score_zero():
    frames = [[person(10 + 3 * i)] for i in range(30)]
    for i in (0, 5, 6, 12, 13, 14, 15, 29):
        frames[i] = []
    poses, report = estimate(frames, max_gap=3, smooth=1)
    assert report.filled == 2 and report.missing == 6
    seen = np.flatnonzero(poses.scores.any(1))
    assert sorted(set(range(30)) - set(seen.tolist())) == [0, 12, 13, 14, 15, 29]
    np.testing.assert_allclose(poses.keypoints[seen, 0, 0], SHAPE[0, 0] * 100 + 10 + 3 * seen, atol=0.05)
    assert not poses.keypoints[12].any()


def test_low_scores_are_no_person():
    poses, report = estimate([[person(10)], [person(10, score=0.2)], [person(10)]], max_gap=0)
    assert report.missing == 1 and not poses.scores[1].any()


def test_nobody_in_the_video_names_the_video_and_the_best_score():
    with pytest.raises(
        PoseError, match=r"3 frames of driving video clip\.mp4 \(best score 0\.20\).*min_score"
    ):
        estimate([[], [person(10, score=0.2)], []])
    with pytest.raises(PoseError, match="has no frames"):
        estimate([])


def test_nobody_in_the_picture_names_the_ways_on():
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    with pytest.raises(PoseError, match=r"ref\.png \(best score 0\.00\).*--align none.*NAME\.npz"):
        estimate_picture(image, Recorded([[]]), min_score=0.3, name="ref.png")


def test_picture_gives_the_largest_person_and_counts_the_others():
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    estimator = Recorded([[person(10, size=50), person(100, size=90)]])
    pose, report = estimate_picture(image, estimator, min_score=0.3, name="ref.png")
    assert estimator.static and len(pose) == 1 and report.people == 2
    assert pose.keypoints[0, 0, 0] == pytest.approx(SHAPE[0, 0] * 90 + 100, abs=1e-3)


def test_frames_are_taken_a_few_at_a_time_and_counted():
    taken = 0

    def images() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(4 * BATCH):
            taken += 1
            yield np.zeros((SIZE[1], SIZE[0], 3), np.uint8)

    lead: list[int] = []
    estimator = Recorded([[person(10)]] * (4 * BATCH))
    estimate_poses(
        images(), estimator, fps=Fraction(25), min_score=0.3, max_gap=3, name="clip",
        on_frame=lambda done: lead.append(taken - done),
    )  # fmt: skip
    assert estimator.largest_batch == BATCH and len(lead) == 4 * BATCH and max(lead) < 2 * BATCH


def test_person_score_takes_head_and_shoulders_for_a_person():
    scores = np.zeros(133)
    scores[:7] = 1
    assert person_score(scores) == 1
    assert person_score(np.zeros(133)) == 0


def test_follow_gives_zeros_for_nobody():
    keypoints, scores = follow([detections([], *SIZE)] * 2)
    assert keypoints.shape == (2, 133, 2) and not keypoints.any() and not scores.any()


def placed(where: dict[int, tuple[float, float]]) -> Detections:
    """A person who fills the frame, with some of the 133 keypoints somewhere else."""
    points, scores = person(10)
    for joint, place in where.items():
        points[joint] = place
    return detections([(points, scores)], *SIZE)


def test_keypoints_just_outside_the_frame_keep_place_and_score():
    where = {9: (100, -4), 10: (-30, 50), 15: (60, 280), 16: (325, 100)}
    found = placed(where)
    assert (found.scores[0] == np.float32(0.9)).all()
    for joint, place in where.items():
        assert found.keypoints[0, joint].tolist() == list(place)


@pytest.mark.parametrize("place", [(0, -161), (-161, 10), (481, 10), (10, 401), (np.nan, 10), (np.inf, 10)])
def test_keypoints_far_outside_the_frame_are_unseen(place: tuple[float, float]):
    found = placed({9: place})
    assert not found.scores[0, 9] and not found.keypoints[0, 9].any()
    assert (np.delete(found.scores[0], 9) > 0).all()
