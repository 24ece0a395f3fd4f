"""Half bodies: dancers whom the picture cuts at the knees or the waist, in driving video, reference, or both.

The result is framed as the reference is. Of what the driving picture cuts off there is no control, and
nothing that a model could know but the reference: so the feet stand as they do there, and the hips move
above them.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .camera import camera
from .character import Character, Framing
from .motion import FEET, Motion, Track
from .skeleton import joints_133, skeleton

Cut = Literal["knees", "waist"]
CutIn = Literal["driving", "reference", "both"]

CUTS: dict[Cut, tuple[float, float]] = {"knees": (0.22, 0.34), "waist": (0.44, 0.56)}
"""Where on the body the lower edge of the picture lies, in character heights: knees are at about 0.27,
hips at 0.5."""
HEADROOM = (0.12, 0.40)
"""Room above the crown, in picture heights."""
BEYOND = 0.3
"""How far outside its picture an estimator may still place a joint of the body, in picture heights: measured
of MediaPipe (see `FAR_OUTSIDE` in stages/pose/base.py). Of hands and faces outside it finds nothing."""
BODY_AND_FEET = slice(0, 23)


@dataclass(frozen=True, slots=True)
class HalfBody:
    """How dancer and reference are framed where either is cut; None leaves the one as it is, uncut.

    `beyond`: how far outside the driving picture its joints are still found, in picture heights.
    """

    driving: Framing | None
    reference: Framing | None
    beyond: float


def draw_half_body(rng: np.random.Generator, cut_in: CutIn | None = None, cut: Cut | None = None) -> HalfBody:
    """Cut framings at random: in `cut_in` or any of the three, at `cut` or either, each for itself."""
    ways: tuple[CutIn, ...] = ("driving", "reference", "both")
    which = ways[rng.integers(len(ways))]
    framings = [cut_framing(rng, cut) for _ in range(2)]
    beyond = float(rng.uniform(0, BEYOND))
    which = cut_in or which
    return HalfBody(
        driving=None if which == "reference" else framings[0],
        reference=None if which == "driving" else framings[1],
        beyond=beyond,
    )


def cut_framing(rng: np.random.Generator, cut: Cut | None = None) -> Framing:
    """A framing whose lower edge cuts the body at the knees or the waist."""
    names = tuple(CUTS)
    drawn = names[rng.integers(len(names))]
    return Framing(
        zoom=1.0,
        centre=float(rng.uniform(0.46, 0.54)),
        floor=float(rng.uniform(*HEADROOM)),
        pitch=float(rng.uniform(0.0, 0.1)),
        cut=float(rng.uniform(*CUTS[cut or drawn])),
    )


def standing(motion: Motion, still: Motion) -> Motion:
    """The dance `motion` above feet that stay where the pose `still` has them."""
    feet = still.pose(0).feet.reshape(1, -1)
    others = [track for track in motion.tracks if track.angles != FEET]
    return replace(motion, tracks=(*others, Track(FEET, 1.0, feet, np.zeros_like(feet))))


def driving_scores(
    scores: np.ndarray,
    half: HalfBody,
    character: Character,
    motion: Motion,
    frame: int,
    size: tuple[int, int],
) -> np.ndarray:
    """The scores float32 [133] that the driving picture so framed would have, of those of the drawn picture.

    What the drawn picture has outside (score 0) the driving one may show: there it is taken to be seen.
    """
    shown = np.where(scores > 0, scores, 1.0).astype(np.float32)
    if half.driving is None:
        return shown
    body, (width, height) = character.proportions, size
    lens = camera(body, half.driving, width, height)
    points = lens(joints_133(skeleton(body, motion.pose(frame)), body.head))[:, :2]
    reach = np.zeros((len(points), 1))
    reach[BODY_AND_FEET] = half.beyond * height
    found = ((points >= -reach) & (points < reach + size)).all(-1)
    return np.where(found, shown, np.float32(0))
