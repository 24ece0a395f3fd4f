"""Everybody in a video, or in pictures, with the models in mediapipe 0.10's wheel.

MediaPipe's Holistic follows one person, whichever its detector scores best. So its graph is taken apart here:
the detector, which does see several people, runs now and then, and each person has a copy of the rest
(BlazePose in a region, then the face mesh and both hands), fed with the region that its last result gave.
Body and face of one person are Holistic's.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np

from ...threads import thread_limit
from ..base import Detections, detections
from .mediapipe_graph import BODY, DETECTOR, FACE, STILL_BODY, Graph
from .mediapipe_hands import Hands, KnownHands
from .mediapipe_layout import BODY_FROM_POSE, whole_body

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


class Person:
    """One followed person: two graphs and the region (NormalizedRect) to look in next."""

    def __init__(self, region: Any) -> None:
        self.region = region
        self._body = Graph(BODY)
        self.face = Graph(FACE)
        self.hands = KnownHands()

    def look(self, frame: np.ndarray) -> Any:
        """The body's 33 landmarks; None when the person is gone."""
        result = self._body(image=frame, region=self.region)
        self.region = result.next_region
        return None if self.region is None else result.pose

    def close(self) -> None:
        self._body.close()
        self.face.close()


Result = TypeVar("Result")

Bodies = list[tuple[Person, Any]]
"""Who is in a frame, and the 33 landmarks of each."""


class People:
    """Follows people through the frames of a video: at most MAX_PEOPLE."""

    def __init__(self, hands: Hands) -> None:
        self._detector = Graph(DETECTOR)
        self._hands = hands
        self._people: list[Person] = []
        self._gone: list[Person] = []
        self._wait = 0

    def start(self) -> None:
        """Forget the last video."""
        self._forget(self._people)
        self._close_gone()
        self._wait = 0

    def look(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """The people of the next frames, uint8 RGB [H, W, 3] each.

        While one thread finds the bodies of a frame, a second finds the faces of the frame before, and a
        third its hands; with two threads the second does both, with one nothing overlaps. Each takes the
        frames in their order, so the results do not depend on it.
        """
        threads, found = thread_limit() or 3, []
        with ExitStack() as stack:
            faces = stack.enter_context(ThreadPoolExecutor(1, "faces")) if threads > 1 else None
            hands = stack.enter_context(ThreadPoolExecutor(1, "hands")) if threads > 2 else faces
            for frame in frames:
                bodies = self._bodies(frame)
                with_faces = beside(faces, _with_faces, frame, bodies)
                found.append(beside(hands, self._with_hands, frame, bodies, with_faces))
        self._close_gone()
        return [one.result() for one in found]

    def _with_hands(
        self, frame: np.ndarray, bodies: Bodies, with_faces: Future[list[tuple[np.ndarray, np.ndarray]]]
    ) -> Detections:
        found = with_faces.result()
        for (person, pose), (keypoints, scores) in zip(bodies, found, strict=True):
            self._hands(frame, pose, keypoints, scores, person.hands)
        return detections(found, frame.shape[1], frame.shape[0])

    def close(self) -> None:
        self.start()
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
            self._people[i] if i < len(self._people) else Person(regions[i - len(self._people)]) for i in met
        ]
        self._forget([person for person in self._people if person not in people])
        self._people = people

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

    def __init__(self, hands: Hands) -> None:
        self._detector = Graph(DETECTOR)
        self._hands = hands
        self._body = Graph(STILL_BODY)
        self._face = Graph(FACE)

    def look(self, picture: np.ndarray) -> Detections:
        """The largest people of a picture, uint8 RGB [H, W, 3], upright, lying or head down."""
        found = []
        for pose in self._bodies(picture):
            keypoints, scores = _with_face(self._face, picture, pose)
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
    """The people of a video's frames, or of pictures: what was made for either is kept."""

    def __init__(self) -> None:
        self._hands = Hands()
        self._people, self._stills = People(self._hands), Stills(self._hands)
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


def beside(thread: ThreadPoolExecutor | None, call: Callable[..., Result], *given: Any) -> Future[Result]:
    """The result to come of a call on another thread; without one it is made here."""
    if thread is not None:
        return thread.submit(call, *given)
    future: Future[Result] = Future()
    future.set_result(call(*given))
    return future


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


def _with_faces(frame: np.ndarray, bodies: Bodies) -> list[tuple[np.ndarray, np.ndarray]]:
    return [_with_face(person.face, frame, pose) for person, pose in bodies]


def _with_face(graph: Graph, frame: np.ndarray, pose: Any) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [133, 2] and scores [133] of a body's landmarks, and of its face where the graph finds it."""
    face = graph(image=frame, pose=pose).face
    mesh = None if face is None else np.array([(p.x, p.y) for p in face.landmark], np.float32)
    body = np.array([(point.x, point.y, point.visibility) for point in pose.landmark], np.float32)
    return whole_body(body, None, None, mesh, (frame.shape[1], frame.shape[0]))


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
