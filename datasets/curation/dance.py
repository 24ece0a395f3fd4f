"""Scores of the dancer: who is seen how well, how large, and how they move.

Speeds are in heights of the person a second, with the camera's motion taken out.
"""

import numpy as np

from ...stages.pose.estimate.second_look import LEFT, RIGHT, Side, forearm_length
from ...stages.pose.follow.people import person_score
from ...stages.pose.skeleton import BODY, FACE, VISIBLE
from .clip import DensePoses
from .people import MIN_SCORE

HALF = 0.5
"""Share of its points that must be seen for a hand or a face to be seen."""
APART = 0.5
"""Way between the middles of both hands, in the larger one's size, from which they are two."""
KNUCKLE = 9
"""The point of a hand at the root of its middle finger."""
AT_WRIST = 0.3
"""Forearms from a hand's root to the body's wrist at most: nine of ten drawn hands lie within 0.15, half of
what is made of hidden ones beyond 0.23."""
ACROSS = 0.7
"""Forearms from the other wrist within which a hand that is found alone may be that arm's."""
PAIRS = np.array([(5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)])
"""Joints of the body of both sides: shoulders, elbows, wrists, hips, knees, ankles."""
EXCHANGED = 0.6
"""Way that both sides save, in heights of the person and all PAIRS together, where they were exchanged from
one frame to the next: 0.8 to 3.4 where somebody who is half hidden is taken to have turned around."""
NOISE = 0.004
"""Way of a joint from one frame to the next that an estimator makes up, in heights of the person."""


def seen_frames(dense: DensePoses) -> np.ndarray:
    """Which frames show the dancer, bool [T]."""
    return np.array([person_score(scores) >= MIN_SCORE for scores in dense.poses.scores])


def inside_picture(dense: DensePoses) -> np.ndarray:
    """Which points lie in the picture, bool [T, 133]."""
    box = dense.picture
    points = dense.poses.keypoints
    return ((points >= (box.x0, box.y0)) & (points < (box.x1, box.y1))).all(-1)


def part_frames(dense: DensePoses, part: slice) -> np.ndarray:
    """Which frames show at least half of a part's points inside the picture, bool [T]."""
    seen = (dense.poses.scores[:, part] > VISIBLE) & inside_picture(dense)[:, part]
    return seen.mean(1) >= HALF


def share_of_hand(dense: DensePoses, side: Side, other: Side) -> float:
    """The share of the frames that show a hand, each counted by the mean score of the hand's points: 0 to 1.

    What an estimator makes of a stump, a sleeve or the other hand does not count: it lies away from the
    wrist, turns back along the forearm, or lies at the other wrist, where no hand is found or the same one.
    Where the pose has its sides exchanged for a while, it is the hand that has the other one's name.
    """
    by_name, by_other = frames_with_hand(dense, side, other), frames_with_hand(dense, other, side)
    return float(np.where(exchanged(dense), by_other, by_name).mean())


def exchanged(dense: DensePoses) -> np.ndarray:
    """In which frames the pose has left and right exchanged, bool [T]: those that are fewer.

    Nobody turns around from one frame to the next, but an estimator that cannot see a face may think so.
    """
    points, visible = dense.poses.keypoints[:, PAIRS], dense.poses.scores[:, PAIRS] > VISIBLE
    tall = heights(dense)
    height = float(np.median(tall[tall > 0])) if (tall > 0).any() else 1.0
    known = (visible[1:] & visible[:-1]).all(-1)
    kept = np.linalg.norm(points[1:] - points[:-1], axis=-1).sum(-1)
    crossed = np.linalg.norm(points[1:] - points[:-1, :, ::-1], axis=-1).sum(-1)
    saved = np.where(known, kept - crossed, 0).sum(-1) / height
    other = np.concatenate([[False], np.cumsum(saved > EXCHANGED) % 2 == 1])
    return other if other.mean() <= HALF else ~other


def frames_with_hand(dense: DensePoses, side: Side, other: Side) -> np.ndarray:
    """The mean score of a hand's points in the frames that show it at its arm, 0 elsewhere: float [T]."""
    points, scores = dense.poses.keypoints, dense.poses.scores
    seen, others = part_frames(dense, side.hand), part_frames(dense, other.hand)
    hand, wrist = points[:, side.hand], points[:, side.wrist]
    length = np.median([forearm_length(*frame) for frame in zip(points, scores, strict=True)])
    along, onward = wrist - points[:, side.elbow], hand[:, KNUCKLE] - wrist
    goes_on = (along * onward).sum(-1) > 0
    root = np.linalg.norm(hand[:, 0] - wrist, axis=-1)
    across = np.linalg.norm(hand[:, 0] - points[:, side.other_wrist], axis=-1)
    size = np.max([np.ptp(points[:, each.hand], axis=1).max(-1) for each in (side, other)], axis=0)
    between = np.linalg.norm(hand.mean(1) - points[:, other.hand].mean(1), axis=-1)
    own = np.where(others, between >= APART * size, across >= ACROSS * length)
    shown = seen & own & goes_on & (root < AT_WRIST * length)
    return shown * scores[:, side.hand].mean(1)


def body(dense: DensePoses) -> float:
    """The share of the frames that show the dancer: 0 to 1."""
    return float(seen_frames(dense).mean())


def left_hand(dense: DensePoses) -> float:
    """How much of the time the dancer's left hand is seen, and how surely: 0 to 1."""
    return share_of_hand(dense, LEFT, RIGHT)


def right_hand(dense: DensePoses) -> float:
    """How much of the time the dancer's right hand is seen, and how surely: 0 to 1."""
    return share_of_hand(dense, RIGHT, LEFT)


def face(dense: DensePoses) -> float:
    """The share of the frames that show the face: 0 to 1."""
    return float(part_frames(dense, FACE).mean())


def confidence(dense: DensePoses) -> float:
    """Mean score of the body joints that lie in the picture, in the frames that show the dancer: 0 to 1."""
    counted = seen_frames(dense)[:, None] & inside_picture(dense)[:, BODY]
    return float(dense.poses.scores[:, BODY][counted].mean()) if counted.any() else 0.0


def heights(dense: DensePoses) -> np.ndarray:
    """Height of the box around the visible body joints in pixels, float32 [T]; 0 for fewer than two."""
    joints, visible = dense.poses.keypoints[:, BODY, 1], dense.poses.scores[:, BODY] > VISIBLE
    low = np.where(visible, joints, np.inf).min(1)
    high = np.where(visible, joints, -np.inf).max(1)
    return np.where(visible.sum(1) > 1, high - low, 0).astype(np.float32)


def person_size(dense: DensePoses) -> float:
    """Height of the dancer over that of the picture, the middle of the frames that show them."""
    seen = seen_frames(dense)
    return float(np.median(heights(dense)[seen]) / dense.picture.height) if seen.any() else 0.0


def inside(dense: DensePoses) -> float:
    """The share of the body joints that lie in the picture, in the frames that show the dancer: 0 to 1."""
    seen = seen_frames(dense)
    within = inside_picture(dense)[:, BODY] & (dense.poses.scores[:, BODY] > 0)
    return float(within[seen].mean()) if seen.any() else 0.0


def velocities(dense: DensePoses) -> np.ndarray:
    """Way of each body joint since the frame before, in heights of the person, camera taken out.

    float32 [T - 1, 17, 2]; NaN where it is not visible in both frames.
    """
    points = dense.poses.keypoints[:, BODY]
    turn, shift = dense.camera[1:, :, :2], dense.camera[1:, :, 2]
    still = np.einsum("tij,tkj->tki", turn, points[:-1]) + shift[:, None]
    tall = heights(dense)
    height = float(np.median(tall[tall > 0])) if (tall > 0).any() else 1.0
    visible = dense.poses.scores[:, BODY] > VISIBLE
    both = visible[1:] & visible[:-1]
    return np.where(both[..., None], (points[1:] - still) / height, np.nan).astype(np.float32)


def motion(dense: DensePoses) -> float:
    """Mean speed of the visible body joints, heights of the person a second."""
    ways = np.linalg.norm(velocities(dense), axis=-1)
    return float(np.nanmean(ways) * dense.poses.fps) if np.isfinite(ways).any() else 0.0


def jitter(dense: DensePoses) -> float:
    """How much of the joints' motion turns back at once: 0 smooth to 1 shaking.

    The change of velocity over the sum of both velocities, each with the noise of an estimator added.
    """
    ways = velocities(dense)
    change = np.linalg.norm(np.diff(ways, axis=0), axis=-1)
    speed = np.linalg.norm(ways, axis=-1)
    both = speed[1:] + speed[:-1] + 2 * NOISE
    known = np.isfinite(change)
    return float(change[known].sum() / both[known].sum()) if known.any() else 0.0


def hand_sharpness(dense: DensePoses) -> float:
    """Sharpness of the hands that are seen, the middle over frames and sides: 0 to 1, 0 without any."""
    values = dense.hand_sharpness[dense.hand_sharpness > 0]
    return float(np.median(values)) if len(values) else 0.0
