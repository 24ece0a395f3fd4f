"""Scenes of the proof set: drawn dancers with one thing wrong each, or nothing.

A scene is drawn by a function of (size, frame rate, number of frames, seed); it gives the frames, uint8
[T, H, W, 3]. SCENES lists them with the filters that should refuse them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from ..puppets.character import Character, Framing, make_character
from ..puppets.motion import SIZE, Motion, make_motion, reference_pose
from ..puppets.render import PuppetFrame, render

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What a scene is drawn with."""

    size: Size
    fps: Fraction
    frames: int
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 31])


def dancer(seed: int) -> Character:
    """A dancer whose whole body is shown, with bare hands: MediaPipe finds no hands in coloured gloves."""
    character = make_character(10_000 + seed)
    outfit = replace(character.outfit, hands=character.outfit.skin)
    return replace(character, outfit=outfit, framing=Framing(1.0, 0.5, 0.9, 0.08))


def drawn(
    shot: Shot,
    *,
    character: Character | None = None,
    motion: Motion | None = None,
    framing: Callable[[int], Framing] | None = None,
) -> list[PuppetFrame]:
    """The frames of a dance and what is known of them."""
    character = character or dancer(shot.seed)
    motion = motion or make_motion(20_000 + shot.seed, shot.fps)
    return [
        render(character, motion, frame, *shot.size, framing(frame) if framing else None)
        for frame in range(shot.frames)
    ]


def pictures(frames: list[PuppetFrame]) -> np.ndarray:
    return np.stack([frame.image for frame in frames])


def zoomed(character: Character, zoom: float, centre: float = 0.5) -> Character:
    return replace(character, framing=replace(character.framing, zoom=zoom, centre=centre))


def moved(frames: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Each frame [T, H, W, 3] moved by its own motion [T, 2, 3], mirrored beyond its edges."""
    size = frames.shape[2], frames.shape[1]
    return np.stack(
        [
            cv2.warpAffine(frame, motion.astype(np.float64), size, borderMode=cv2.BORDER_REFLECT_101)
            for frame, motion in zip(frames, motions, strict=True)
        ]
    )


def shifts(x: np.ndarray, y: np.ndarray, zoom: np.ndarray | None = None) -> np.ndarray:
    """Motions [T, 2, 3] by x and y pixels [T], and by a zoom [T] around the corner."""
    motions = np.zeros((len(x), 2, 3))
    motions[:, 0, 0] = motions[:, 1, 1] = 1.0 if zoom is None else zoom
    motions[:, 0, 2], motions[:, 1, 2] = x, y
    return motions


# Nothing wrong


def plain(shot: Shot) -> np.ndarray:
    """A dance, whole body."""
    return pictures(drawn(shot))


def closer(shot: Shot) -> np.ndarray:
    """A dance from the knees up."""
    return pictures(drawn(shot, character=zoomed(dancer(shot.seed), 1.35)))


def panned(shot: Shot) -> np.ndarray:
    """A dance in a furnished room, the camera moves slowly along."""
    return panning(drawn(shot, character=furnished(dancer(shot.seed))), shot)


def logo(shot: Shot) -> np.ndarray:
    """A dance with a small sign in a corner."""
    return with_logo(plain(shot))


# Scenes of the picture


def dark(shot: Shot) -> np.ndarray:
    return (plain(shot) * 0.12 + 8).astype(np.uint8)


def bright(shot: Shot) -> np.ndarray:
    return (255 - (255 - plain(shot)) * 0.1).astype(np.uint8)


def black(shot: Shot) -> np.ndarray:
    noise = shot.rng.integers(0, 6, (shot.frames, *shot.size[::-1], 3))
    return noise.astype(np.uint8)


def frozen(shot: Shot) -> np.ndarray:
    """The last third stands still."""
    frames = plain(replace(shot, frames=shot.frames * 2 // 3))
    return frames[np.minimum(np.arange(shot.frames), len(frames) - 1)]


def still(shot: Shot) -> np.ndarray:
    """One picture all the time."""
    return plain(replace(shot, frames=1)).repeat(shot.frames, 0)


def slideshow(shot: Shot) -> np.ndarray:
    """One picture, slowly zoomed and moved."""
    picture = drawn(replace(shot, frames=1), character=furnished(dancer(shot.seed)))[0].image
    time = np.arange(shot.frames) / float(shot.fps)
    frames = picture[None].repeat(shot.frames, 0)
    return moved(frames, shifts(-8 * time, -6 * time, 1 + 0.04 * time))


def upsampled(shot: Shot) -> np.ndarray:
    """A dance at 12 frames a second, each repeated."""
    few = plain(replace(shot, fps=Fraction(12), frames=int(shot.frames * 12 / shot.fps) + 1))
    return few[[int(frame * 12 / shot.fps) for frame in range(shot.frames)]]


def blurred(shot: Shot) -> np.ndarray:
    """Out of focus, or enlarged from a quarter of its size."""
    frames = plain(shot)
    if shot.seed % 2:
        spread = 0.0033 * shot.size[1]
        return np.stack([cv2.GaussianBlur(frame, (0, 0), spread) for frame in frames])
    small = [cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack([cv2.resize(frame, shot.size, interpolation=cv2.INTER_CUBIC) for frame in small])


def shaken(shot: Shot) -> np.ndarray:
    """Filmed by a hand that runs."""
    time = np.arange(shot.frames) / float(shot.fps)
    far = 0.06 * shot.size[1]
    frames = pictures(drawn(shot, character=furnished(dancer(shot.seed))))
    return moved(frames, shifts(far * np.sin(15 * time), far * np.cos(19 * time)))


def captioned(shot: Shot) -> np.ndarray:
    """Lyrics along the lower edge."""
    frames = plain(shot)
    width, height = shot.size
    for frame in frames:
        for line, words in enumerate(("DANCE WITH ME", "ALL NIGHT LONG")):
            place = round(0.08 * width), round((0.8 + 0.08 * line) * height)
            for colour, thick in (((0, 0, 0), 5), ((255, 255, 255), 2)):
                cv2.putText(frame, words, place, cv2.FONT_HERSHEY_DUPLEX, width / 320, colour, thick)
    return frames


# Scenes of people


def nobody(shot: Shot) -> np.ndarray:
    """A room in which a ball swings."""
    character = zoomed(dancer(shot.seed), 1.0, 4.0)
    frames = pictures(drawn(shot, character=character))
    width, height = shot.size
    for number, frame in enumerate(frames):
        swing = np.sin(5 * number / float(shot.fps))
        centre = round((0.5 + 0.3 * swing) * width), round((0.5 - 0.1 * swing**2) * height)
        cv2.circle(frame, centre, width // 12, (200, 60, 50), -1, cv2.LINE_AA)
    return frames


def leaving(shot: Shot) -> np.ndarray:
    """The dancer walks out of the picture halfway."""
    character = dancer(shot.seed)
    time = np.arange(shot.frames) / shot.frames
    centres = 0.5 + 1.2 * np.clip((time - 0.35) / 0.25, 0, 1)
    framing = [replace(character.framing, centre=float(centre)) for centre in centres]
    return pictures(drawn(shot, character=character, framing=framing.__getitem__))


def passed_by(shot: Shot) -> np.ndarray:
    """A van passes between the dancer and the camera, from 0.7 s to 1.2 s.

    That is between looks for people: they are a second apart and begin after 0.25 s, or 0.67 after a fade.
    """
    frames = plain(shot)
    width = shot.size[0]
    colour = np.clip(frames[0].mean((0, 1)) + shot.rng.integers(-30, 30, 3), 40, 220)
    for number, frame in enumerate(frames):
        front = round(5 * width * (number / float(shot.fps) - 0.68))
        frame[:, max(0, front - 9 * width // 5) : max(0, front)] = colour
    return frames


def two(shot: Shot) -> np.ndarray:
    """Two dancers side by side."""
    left, right = (dancer(shot.seed + 7919 * k) for k in range(2))
    frames = drawn(shot, character=zoomed(left, 0.62, 0.27))
    motion = make_motion(30_000 + shot.seed, shot.fps)
    others = drawn(shot, character=replace(zoomed(right, 0.62, 0.73), room=left.room), motion=motion)
    beside = [
        np.where(other.parts[..., None] > 0, other.image, frame.image)
        for frame, other in zip(frames, others, strict=True)
    ]
    return np.stack(beside)


def tiny(shot: Shot) -> np.ndarray:
    """The dancer far away."""
    return pictures(drawn(shot, character=zoomed(dancer(shot.seed), 0.42)))


def outside(shot: Shot) -> np.ndarray:
    """The dancer down to the elbows: 0.4 to 0.6 of the body joints lie in the picture."""
    return pictures(drawn(shot, character=zoomed(dancer(shot.seed), 3.2)))


# Scenes of the dance


def walled(shot: Shot) -> np.ndarray:
    """Somebody behind a wall up to the shoulders, hands too: raised ones over it are seen surely."""
    frames = drawn(shot, motion=hands_down(shot, 0.15))
    top = int(max(frame.keypoints[5:7, 1].max() for frame in frames))
    covered = pictures(frames)
    wall = shot.rng.integers(0, 4, (shot.size[1] - top, shot.size[0], 3), dtype=np.uint8)
    covered[:, top:] = wall + np.array([92, 70, 58], np.uint8)
    return covered


def without_hand(side: int, shot: Shot) -> np.ndarray:
    """A hand (0 left, 1 right) in a bag that it carries."""
    frames = drawn(shot)
    covered = pictures(frames)
    for picture, frame in zip(covered, frames, strict=True):
        wrist = frame.keypoints[91 + 21 * side]
        tip = frame.keypoints[91 + 21 * side + 12]
        radius = max(4, round(0.052 * shot.size[1]))
        for place, wide in ((wrist, radius), ((wrist + tip) / 2, radius + 2), (tip, radius)):
            centre = tuple(int(v) for v in np.round(place))
            cv2.circle(picture, centre, wide, (60, 62, 70), -1, cv2.LINE_AA)
    return covered


def without_left_hand(shot: Shot) -> np.ndarray:
    return without_hand(0, shot)


def without_right_hand(shot: Shot) -> np.ndarray:
    return without_hand(1, shot)


def without_face(shot: Shot) -> np.ndarray:
    """The head in a hood."""
    frames = drawn(shot)
    covered = pictures(frames)
    for picture, frame in zip(covered, frames, strict=True):
        middle = frame.keypoints[:5].mean(0)
        centre = tuple(int(v) for v in np.round(middle))
        radius = max(4, round(0.062 * shot.size[1]))
        cv2.circle(picture, centre, radius, (60, 62, 70), -1, cv2.LINE_AA)
    return covered


def standing(shot: Shot) -> np.ndarray:
    """Somebody who stands and breathes."""
    return pictures(drawn(shot, motion=swaying(shot)))


def standing_panned(shot: Shot) -> np.ndarray:
    """Somebody who stands, while the camera moves along."""
    character = furnished(dancer(shot.seed))
    return panning(drawn(shot, character=character, motion=swaying(shot)), shot)


def hands_blurred(shot: Shot) -> np.ndarray:
    """Hands that a slow shutter blurs."""
    frames = drawn(shot, character=zoomed(dancer(shot.seed), 1.35))
    blurry = pictures(frames)
    spread = 0.0033 * shot.size[1]
    for picture, frame in zip(blurry, frames, strict=True):
        soft = cv2.GaussianBlur(picture, (0, 0), spread)
        for x0, y0, x1, y1 in frame.hand_boxes:
            picture[y0:y1, x0:x1] = soft[y0:y1, x0:x1]
    return blurry


def juddering(shot: Shot) -> np.ndarray:
    """Frames in the wrong order, as interlaced fields are shown that were taken apart the wrong way."""
    order = np.arange(shot.frames)
    order = order + np.array([4, 4, -4, -4])[order % 4]
    return plain(shot)[np.clip(order, 0, shot.frames - 1)]


# What they are made of


def furnished(character: Character) -> Character:
    """In a room with enough things in it to see the camera move by."""
    return replace(character, room=replace(character.room, clutter=14))


def panning(frames: list[PuppetFrame], shot: Shot) -> np.ndarray:
    time = np.arange(shot.frames) / float(shot.fps)
    return moved(pictures(frames), shifts(0.03 * shot.size[1] * (time - time.mean()), 0 * time))


def swaying(shot: Shot, far: float = 0.045) -> Motion:
    """A stand with breath in it: hips and spine turn by `far` radians to both sides."""
    stand = reference_pose(shot.seed)
    waves = np.array([(5.0 + k, far, 0.4, 0.1 * k) for k in range(6)])
    assert waves[:, 0].max() < SIZE
    return replace(stand, fps=shot.fps, waves=waves)


def hands_down(shot: Shot, far: float) -> Motion:
    """As `swaying`, of the first stand whose wrists are below the shoulders."""
    for turn in range(100):
        motion = swaying(replace(shot, seed=shot.seed + 7919 * turn), far)
        (frame,) = drawn(replace(shot, size=(36, 64), frames=1), motion=motion)
        if frame.keypoints[9:11, 1].min() > frame.keypoints[5:7, 1].max():
            return motion
    raise AssertionError(f"100 stands after seed {shot.seed} have a raised hand")


def with_logo(frames: np.ndarray) -> np.ndarray:
    """A ring with a bar in the upper right corner."""
    width = frames.shape[2]
    radius = width // 16
    for frame in frames:
        centre = width - 2 * radius, 2 * radius
        cv2.circle(frame, centre, radius, (250, 250, 250), 3, cv2.LINE_AA)
        cv2.line(frame, (centre[0] - radius, centre[1]), (centre[0] + radius, centre[1]), (250, 40, 40), 3)
    return frames


@dataclass(frozen=True, slots=True)
class Scene:
    """How a scene is drawn, and the filters that may refuse it, the one that is meant first."""

    draw: Callable[[Shot], np.ndarray]
    reasons: tuple[str, ...] = ()


SCENES: dict[str, Scene] = {
    "plain": Scene(plain),
    "closer": Scene(closer),
    "panned": Scene(panned),
    "logo": Scene(logo),
    "dark": Scene(dark, ("exposure",)),
    "bright": Scene(bright, ("exposure",)),
    "black": Scene(black, ("black",)),
    "frozen": Scene(frozen, ("frozen",)),
    "still": Scene(still, ("frozen", "slideshow")),
    "slideshow": Scene(slideshow, ("slideshow",)),
    "upsampled": Scene(upsampled, ("distinct_fps",)),
    "blurred": Scene(blurred, ("sharpness",)),
    "shaken": Scene(shaken, ("camera",)),
    "captioned": Scene(captioned, ("text",)),
    "nobody": Scene(nobody, ("person",)),
    "leaving": Scene(leaving, ("person", "body", "frozen")),
    "passed_by": Scene(passed_by, ("body",)),
    "two": Scene(two, ("alone",)),
    "tiny": Scene(tiny, ("person_size",)),
    "outside": Scene(outside, ("inside", "person")),
    "walled": Scene(walled, ("confidence", "person")),
    "without_left_hand": Scene(without_left_hand, ("left_hand",)),
    "without_right_hand": Scene(without_right_hand, ("right_hand",)),
    "without_face": Scene(without_face, ("face",)),
    "standing": Scene(standing, ("motion",)),
    "standing_panned": Scene(standing_panned, ("motion", "slideshow")),
    "hands_blurred": Scene(hands_blurred, ("hand_sharpness", "left_hand", "right_hand")),
    "juddering": Scene(juddering, ("jitter",)),
}
