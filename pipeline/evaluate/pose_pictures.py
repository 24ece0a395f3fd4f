"""People of real pictures with annotated keypoints, in COCO-WholeBody's layout, as cases to measure."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...stages.errors import PoseError
from ...stages.media.picture import read_picture
from ...stages.pose.base import PoseEstimator
from ...stages.pose.follow.track import estimate_picture
from ...stages.pose.skeleton import BODY
from ...stages.types import NUM_KEYPOINTS, PoseSequence
from .pose_figures import SEEN, Case

KEYPOINTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""Where an annotation keeps its 133 keypoints, in this order: x, y and 0, 1 (covered) or 2 each."""
MARGIN = 0.2
"""Room around a person's box that is cut out with it, in sides of the box, on each side."""
ENLARGED = 3
"""How much larger a person is looked at: people in photographs are small."""
LEAST_JOINTS = 9
"""Body joints that an annotation knows at least, to be measured: half of them."""


class Person:
    """One annotated person: the picture's path, and in its pixels `box` (x, y, width, height) and `truth`
    [133, 3], whose last column is 0 where a keypoint is unknown.
    """

    def __init__(self, picture: Path, entry: Mapping[str, Any]) -> None:
        self.picture = picture
        self.box = tuple(float(side) for side in entry["bbox"])
        values = [value for name in KEYPOINTS for value in entry[name]]
        self.truth = np.array(values, np.float64).reshape(NUM_KEYPOINTS, 3)


def read_people(annotations: Path, images: Path) -> tuple[list[Person], int]:
    """The people of an annotation file, and how many are left out: crowds, and who has few keypoints.

    Raises PoseError, which names the file, for anything else than COCO-WholeBody's layout, and for a picture
    that is not in `images`.
    """
    try:
        data = json.loads(annotations.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in data["images"]}
        entries = [(names[entry["image_id"]], entry) for entry in data["annotations"]]
        people = [Person(images / Path(name).name, entry) for name, entry in entries if not _crowd(entry)]
    except OSError as error:
        raise PoseError(
            f"annotations {annotations} cannot be read: {error.strerror or error}: check --annotations"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PoseError(
            f"annotations {annotations} are not in COCO-WholeBody's layout ({type(error).__name__}: {error}):"
            f" expected images, and annotations with bbox and {', '.join(KEYPOINTS)}"
        ) from error
    known = [person for person in people if (person.truth[BODY, 2] > 0).sum() >= LEAST_JOINTS]
    if not known:
        raise PoseError(f"annotations {annotations} know {LEAST_JOINTS} body joints of nobody: take others")
    for person in known:
        if not person.picture.is_file():
            raise PoseError(f"there is no picture {person.picture}: check --images")
    return known, len(entries) - len(known)


def _crowd(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("iscrowd"))


def look_at(person: Person, estimator: PoseEstimator) -> Case:
    """What an estimator finds of a person, cut out with MARGIN around and enlarged: the largest one there."""
    image = read_picture(person.picture, [])
    x, y, width, height = person.box
    left, top = max(round(x - MARGIN * width), 0), max(round(y - MARGIN * height), 0)
    right, bottom = round(x + (1 + MARGIN) * width), round(y + (1 + MARGIN) * height)
    part = cv2.resize(
        image[top:bottom, left:right], None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC
    )
    size = (part.shape[1], part.shape[0])
    truth = np.where(person.truth[:, 2:] > 0, (person.truth[:, :2] - (left, top)) * ENLARGED, 0)
    scores = np.where(person.truth[:, 2] > 0, SEEN, 0)
    true = PoseSequence(truth[None], scores[None], size, Fraction(1))
    try:
        found, _ = estimate_picture(part, estimator, min_score=0, name=person.picture.name)
    except PoseError:  # nobody is found: all counts as missed
        found = PoseSequence(np.zeros_like(truth)[None], np.zeros_like(scores)[None], size, Fraction(1))
    return Case(found, true, height * ENLARGED, found.scores > 0)
