"""Fit the dancer's skeleton to the reference's, in one of several ways.

limbs       bone by bone: the dancer's directions, the character's lengths, feet on the ground
robust      one scale, by the lengths of bones and the head: never turns the skeleton over
published   the least squares of ControlNeXt-SVD-v2, kept as they are: shrinks as the motion grows
wan         Wan2.2-Animate's way, kept as it is: bone by bone, by the first frame
none        the dancer's whole frame inside the reference's, keeping its aspect
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from ...errors import PoseError
from ...media.placement import Size
from ...types import PoseSequence
from .affine import align_none, align_published, align_robust
from .limbs import align_limbs
from .wan import align_wan


class Fit(Protocol):
    """How a dancer is fitted to a character, and what is worth saying about it.

    `size` (width, height) is the picture's into which the poses come; `method` is what was used in the end;
    `limbs` are the fitted lengths over the character's by name (`limb_ratios`: 1 is perfect, and only limbs
    that both show are in it); `note` is empty or a sentence for the user.
    """

    @property
    def size(self) -> Size: ...
    @property
    def method(self) -> str: ...
    @property
    def limbs(self) -> Mapping[str, float]: ...
    @property
    def note(self) -> str: ...

    def apply(self, poses: PoseSequence) -> PoseSequence:
        """The dancer's poses in pixels of `size`; keypoints that score 0 stay where they are."""
        ...


ALIGNMENTS: dict[str, Callable[[PoseSequence, PoseSequence], Fit]] = {
    "limbs": align_limbs,
    "robust": align_robust,
    "published": align_published,
    "wan": align_wan,
    "none": align_none,
}


def align(dance: PoseSequence, reference: PoseSequence, method: str = "limbs") -> PoseSequence:
    """The dancer's poses in the reference's size. `method` is a key of ALIGNMENTS; see `fit_alignment`."""
    return fit_alignment(dance, reference, method).apply(dance)


def fit_alignment(dance: PoseSequence, reference: PoseSequence, method: str = "limbs") -> Fit:
    """Fit the dancer to the first frame of `reference`. Raises PoseError where `reference` cannot be fitted.

    `limbs` and `robust` fall back to `none` where the two have fewer than three joints in common, and their
    note says so. Where dancer and character are built alike, the two come to the same.
    """
    if method not in ALIGNMENTS:
        raise PoseError(f"unknown alignment {method}: choose one of {', '.join(ALIGNMENTS)}")
    return ALIGNMENTS[method](dance, reference)
