"""Everybody in a video, or in pictures, with the models in mediapipe 0.10's wheel.

MediaPipe's Holistic follows one person, whichever its detector scores best. So its graph is taken apart here:
the detector, which does see several people, runs now and then, and each person has a copy of the rest
(BlazePose in a region, then the face mesh and both hands), fed with the region that its last result gave.
Body and face of one person are Holistic's.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...threads import thread_limit, usable_cpus
from ..base import Detections, detections
from .mediapipe_graph import BODY, DETECTOR, FACE, STILL_BODY, Graph
from .mediapipe_hands import Hands, KnownHands, agree
from .mediapipe_layout import BODY_FROM_POSE, FACE_FROM_MESH, put_face, whole_body
from .second_look import LEFT, RIGHT, Side
from .side_by_side import Task, do_all

DETECT_EVERY = 10
"""Frames between two looks for people; while nobody is known, every frame is looked at."""

MAX_PEOPLE = 2
"""People who are followed at once, the largest ones: each costs as much as one Holistic."""

SAME_PERSON = 0.1
"""Regions whose centres (the hips) are nearer than this part of their size belong to one person."""

SAME_BODY = 0.1
"""Bodies whose joints lie nearer than this part of the larger one's longer side on average are one person's.
On real clips two followers of one person, begun 0.15 of the region apart, lay at most 0.04 apart."""

REGION_SCALE = 1.25
"""Region over the circle that the detector draws around a person (MediaPipe's PoseDetectionToRoi)."""

NEWCOMER = 2.0
"""Who is new takes a known person's place only where the region is this many times as tall: a dancer who
crouches is not given up for people who stand (assumed)."""

TURNS = (1, 2, 3)
"""Quarter turns in which a picture is looked at again: the detector knows people who stand or sit."""

WELL_SEEN = 0.7
"""A body whose 17 joints have this mean visibility is not looked for in turned pictures."""

BETTER = 0.1
"""A body in a turned picture is taken where its mean visibility is higher by this much: half a body that is
cut off scores alike in every turn."""

AHEAD = 4
"""Frames by which the body is looked for before hands and faces, which then never wait for it."""

MOST_THREADS = 4
"""Body, face and either hand: each of them is found in one frame after the other."""


class Person:
    """One followed person: two graphs, of which `model` is for the first, and the region to look in next."""

    def __init__(self, model: bytes, region: Any = None) -> None:
        self.region = region
        self.body = Graph(BODY, model)
        self.face = Graph(FACE)
        self.hands = KnownHands()

    def look(self, frame: np.ndarray) -> Any:
        """The body's 33 landmarks; None when the person is gone."""
        result = self.body(image=frame, region=self.region)
        self.region = result.next_region
        return None if self.region is None else result.pose

    def close(self) -> None:
        self.body.close()
        self.face.close()


Bodies = list[tuple[Person, Any]]
"""Who is in a frame, and the 33 landmarks of each."""


@dataclass(slots=True)
class Look:
    """A frame, uint8 RGB [H, W, 3], who is in it, and keypoints [133, 2] and scores [133] of each so far."""

    frame: np.ndarray
    bodies: Bodies = field(default_factory=list)
    found: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def people(self) -> Iterator[tuple[Person, Any, np.ndarray, np.ndarray]]:
        """Each person, their 33 landmarks, keypoints and scores."""
        for (person, pose), (keypoints, scores) in zip(self.bodies, self.found, strict=True):
            yield person, pose, keypoints, scores


class People:
    """Follows people through the frames of a video: at most MAX_PEOPLE."""

    def __init__(self, hands: Hands, model: bytes) -> None:
        self._detector = Graph(DETECTOR)
        self._hands = hands
        self._model = model
        self._people: list[Person] = []
        self._gone: list[Person] = []
        self._next = Person(model)
        self._wait = 0

    def start(self) -> None:
        """Forget the last video."""
        self._forget(self._people)
        self._close_gone()
        self._wait = 0

    def look(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """The people of the next frames, uint8 RGB [H, W, 3] each.

        Bodies, faces, left and right hands are found beside each other, each of them in the order of the
        frames, so the results do not depend on the number of threads.
        """
        looks = [Look(frame) for frame in frames]
        do_all(self._tasks(looks), min(MOST_THREADS, thread_limit() or usable_cpus()))
        self._close_gone()
        return [detections(look.found, look.frame.shape[1], look.frame.shape[0]) for look in looks]

    def _tasks(self, looks: Sequence[Look]) -> list[Task]:
        """What to do for frames, body by body; and, while the first one is looked for, load the networks."""
        tasks: list[Task] = []

        def add(task: Task) -> tuple[int]:
            tasks.append(task)
            return (len(tasks) - 1,)

        body = face = hands = ()
        for number, look in enumerate(looks):
            body = add(Task(partial(self._find_bodies, look), body, number - AHEAD))
            face = add(Task(partial(_find_faces, look), (*body, *face), number))
            sides = [
                add(Task(partial(self._find_hands, look, side), (*body, *hands), number))
                for side in (LEFT, RIGHT)
            ]
            hands = add(Task(partial(_agree_on_hands, look), (*sides[0], *sides[1]), number))
        for graph in (self._next.body, *self._hands.of_sides(), self._next.face):
            add(Task(graph.make, rank=-AHEAD))
        return tasks

    def _find_bodies(self, look: Look) -> None:
        look.bodies = self._bodies(look.frame)
        look.found = [_of_body(pose, look.frame) for _, pose in look.bodies]

    def _find_hands(self, look: Look, side: Side) -> None:
        for person, pose, keypoints, scores in look.people():
            self._hands.find(look.frame, pose, keypoints, scores, person.hands, side)

    def close(self) -> None:
        self.start()
        self._next.close()
        self._detector.close()

    def _bodies(self, frame: np.ndarray) -> Bodies:
        """Who is there, and their landmarks. Of two followers of one person the earlier one stays."""
        if not self._people or self._wait <= 0:
            self._meet(frame)
            self._wait = DETECT_EVERY
        self._wait -= 1
        found: Bodies = []
        gone: list[Person] = []
        for person in self._people:
            pose = person.look(frame)
            if pose is None:
                self._wait = 0
                gone.append(person)
            elif any(same_body(_joints(pose, frame), _joints(other, frame)) for _, other in found):
                gone.append(person)
            else:
                found.append((person, pose))
        self._forget(gone)
        return found

    def _meet(self, frame: np.ndarray) -> None:
        """Find new people; where nobody is known and none stands upright, in turned frames too."""
        regions = regions_of(self._detector, frame, 0)
        for turns in TURNS:
            if self._people or regions:
                break
            regions = regions_of(self._detector, frame, turns)
        met = choose([person.region for person in self._people], regions, frame)
        people = [
            self._people[i] if i < len(self._people) else self._newcomer(regions[i - len(self._people)])
            for i in met
        ]
        self._forget([person for person in self._people if person not in people])
        self._people = people

    def _newcomer(self, region: Any) -> Person:
        person, self._next = self._next, Person(self._model)
        person.region = region
        return person

    def _forget(self, people: list[Person]) -> None:
        """Follow them no longer. Their last frames may still be looked at: they are closed later."""
        self._gone += people
        self._people = [person for person in self._people if person not in people]

    def _close_gone(self) -> None:
        for person in self._gone:
            person.close()
        self._gone = []


class Stills:
    """Finds people in pictures that have nothing to do with each other. The graphs are kept between them."""

    def __init__(self, hands: Hands, model: bytes) -> None:
        self._detector = Graph(DETECTOR)
        self._hands = hands
        self._body = Graph(STILL_BODY, model)
        self._face = Graph(FACE)

    def look(self, picture: np.ndarray) -> Detections:
        """The largest people of a picture, uint8 RGB [H, W, 3], upright, lying or head down."""
        found = []
        for pose in self._bodies(picture):
            keypoints, scores = _of_body(pose, picture)
            _find_face(self._face, picture, pose, keypoints, scores)
            self._face(image=picture)  # a picture without a body, so that this face guides no later search
            self._hands(picture, pose, keypoints, scores, KnownHands())
            found.append((keypoints, scores))
        return detections(found, picture.shape[1], picture.shape[0])

    def close(self) -> None:
        for graph in (self._detector, self._body, self._face):
            graph.close()

    def _bodies(self, picture: np.ndarray) -> list[Any]:
        """The landmarks of each: of the turn of the picture that shows somebody's joints best."""
        best = self._turned(picture, 0)
        for turns in TURNS:
            if _visibility(best) >= WELL_SEEN:
                break
            poses = self._turned(picture, turns)
            if _visibility(poses) > _visibility(best) + (BETTER if best else 0):
                best = poses
        return best

    def _turned(self, picture: np.ndarray, turns: int) -> list[Any]:
        regions = regions_of(self._detector, picture, turns)
        chosen = [regions[i] for i in choose([], regions, picture)]
        poses = [self._body(image=picture, region=region).raw for region in chosen]
        kept: list[Any] = []
        for pose in poses:
            here = None if pose is None else _joints(pose, picture)
            if here is not None and not any(same_body(here, _joints(other, picture)) for other in kept):
                kept.append(pose)
        return kept


class Everybody:
    """The people of a video's frames, or of pictures: what was made for either is kept.

    `model` is the network of bodies: see `body_model`.
    """

    def __init__(self, model: bytes) -> None:
        self._hands = Hands()
        self._people, self._stills = People(self._hands, model), Stills(self._hands, model)
        self._static = False

    def start(self, static: bool) -> None:
        self._people.start()
        self._static = static

    def look(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        return [self._stills.look(frame) for frame in frames] if self._static else self._people.look(frames)

    def close(self) -> None:
        self._people.close()
        self._stills.close()
        self._hands.close()


def choose(known: list[Any], new: list[Any], frame: np.ndarray) -> list[int]:
    """Whom of the regions of `known` and `new` people to follow: indices into both, at most MAX_PEOPLE.

    The larger come first, and known people before new ones that are not NEWCOMER times as tall. A region of
    somebody who is there already does not count.
    """
    regions = [*known, *new]
    order = sorted(range(len(known)), key=lambda i: -regions[i].height)
    kept: list[int] = []
    for i in [*order, *range(len(known), len(regions))]:
        if not any(_same_person(regions[i], regions[j], frame) for j in kept):
            kept.append(i)
    size = {i: regions[i].height * (NEWCOMER if i < len(known) else 1) for i in kept}
    return sorted(kept, key=lambda i: -size[i])[:MAX_PEOPLE]


def regions_of(detector: Graph, frame: np.ndarray, turns: int) -> list[Any]:
    """The squares in which to look for people, as the detector finds them in the frame that is turned."""
    from mediapipe.framework.formats import rect_pb2

    height, width = frame.shape[:2]
    turned = np.ascontiguousarray(np.rot90(frame, turns))
    regions = []
    for found in detector(image=turned).detections or ():
        hips, rim = (upright(point.x, point.y, turns) for point in found.location_data.relative_keypoints[:2])
        dx, dy = (rim[0] - hips[0]) * width, (rim[1] - hips[1]) * height
        side = 2 * math.hypot(dx, dy) * REGION_SCALE
        regions.append(
            rect_pb2.NormalizedRect(  # pyright: ignore[reportAttributeAccessIssue]
                x_center=hips[0],
                y_center=hips[1],
                width=side / width,
                height=side / height,
                rotation=math.pi / 2 - math.atan2(-dy, dx),
            )
        )
    return regions


def upright(x: float, y: float, turns: int) -> tuple[float, float]:
    """Where a point of a picture that was turned by np.rot90 lies in the picture before; as fractions."""
    for _ in range(turns):
        x, y = 1 - y, x
    return x, y


def same_body(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether joints [n, 2] of two bodies, in pixels, are one person's: see SAME_BODY."""
    size = max(np.ptp(a, axis=0).max(), np.ptp(b, axis=0).max())
    return bool(np.linalg.norm(a - b, axis=1).mean() < SAME_BODY * size)


def _of_body(pose: Any, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [133, 2] and scores [133] of a body's landmarks, without hands and face."""
    body = np.array([(point.x, point.y, point.visibility) for point in pose.landmark], np.float32)
    return whole_body(body, None, None, None, (frame.shape[1], frame.shape[0]))


def _find_faces(look: Look) -> None:
    for person, pose, keypoints, scores in look.people():
        _find_face(person.face, look.frame, pose, keypoints, scores)


def _find_face(graph: Graph, frame: np.ndarray, pose: Any, keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Find the face of a body: into keypoints [133, 2] and scores [133]."""
    mesh = graph(image=frame, pose=pose).face
    if mesh is not None:
        points = [(mesh.landmark[i].x, mesh.landmark[i].y) for i in FACE_FROM_MESH]
        put_face(keypoints, scores, np.array(points, np.float32), (frame.shape[1], frame.shape[0]))


def _agree_on_hands(look: Look) -> None:
    for person, _, keypoints, scores in look.people():
        agree(keypoints, scores, person.hands)


def _joints(pose: Any, frame: np.ndarray) -> np.ndarray:
    """The 17 joints of COCO's body of 33 landmarks, in pixels [17, 2]."""
    points = [(pose.landmark[i].x, pose.landmark[i].y) for i in BODY_FROM_POSE]
    return np.array(points) * (frame.shape[1], frame.shape[0])


def _visibility(poses: list[Any]) -> float:
    """The mean visibility of the joints of who shows best, 0 to 1; 0 for nobody."""
    seen = [np.mean([pose.landmark[i].visibility for i in BODY_FROM_POSE]) for pose in poses]
    return float(max(seen, default=0))


def _same_person(a: Any, b: Any, frame: np.ndarray) -> bool:
    height, width = frame.shape[:2]
    apart = math.hypot((a.x_center - b.x_center) * width, (a.y_center - b.y_center) * height)
    return apart < SAME_PERSON * max(a.height, b.height) * height
