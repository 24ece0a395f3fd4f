"""How near each way to fit a dancer comes to the truth: drawn characters who do a drawn dancer's dance.

    python tests/bench/bench_fitting.py

The character dances in the same way as the dancer, so where its joints are in each frame is known. The fits
know the dancer's keypoints and those of a still of the character. In per cent of the character's height: the
mean distance of the 17 joints from their places, the same with the hips laid upon the hips, and that of the
lower ankle from the true one's height. Then the limb that comes out longest or shortest, and the share of
limbs that are off by more than 10 %. The means of 32 dances.
"""

import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np

from posedance.datasets.puppets.camera import camera
from posedance.datasets.puppets.character import Proportions
from posedance.datasets.puppets.motion import Motion
from posedance.datasets.puppets.render import Framing, make_character, make_motion, reference_pose
from posedance.datasets.puppets.skeleton import joints_133, skeleton
from posedance.stages.pose.fit.align import fit_alignment
from posedance.stages.types import PoseSequence

SIZE = (576, 1024)
FPS = Fraction(15)
MOTIONS = (16, 1, 2, 4, 5, 6, 20, 21)
PAIRS = ((21, 37), (7, 11), (12, 50), (3, 5))
BONES = ("thigh", "shin", "upper_arm", "forearm")
BUILDS = {
    "as drawn": {},
    "a child": {"head": 1.4, **dict.fromkeys(BONES, 0.75)},
    "long limbs": dict.fromkeys(BONES, 1.2),
}


def filmed(body: Proportions, motion: Motion, frames: int, zoom: float) -> tuple[PoseSequence, float]:
    """True keypoints of a dance, all of them seen, and the pixels of the dancer's height."""
    lens = camera(body, Framing(zoom=zoom, centre=0.5, floor=0.9, pitch=0.1), *SIZE)
    moments = [lens(joints_133(skeleton(body, motion.pose(i)), body.head))[:, :2] for i in range(frames)]
    return PoseSequence(np.stack(moments), np.ones((frames, 133)), SIZE, FPS), lens.scale


def measured(build: dict[str, float]) -> dict[str, np.ndarray]:
    """The five figures of each way to fit, the characters built so."""
    found: dict[str, list[list[float]]] = {}
    for dancer, other in PAIRS:
        body = make_character(other).proportions
        body = replace(body, **{part: factor * getattr(body, part) for part, factor in build.items()})
        still, _ = filmed(body, reference_pose(other), 1, 0.765)
        for number in MOTIONS:
            motion = make_motion(number, FPS)
            driver, _ = filmed(make_character(dancer).proportions, motion, 45, 0.72)
            truth, height = filmed(body, motion, 45, 0.765)
            for method in ("published", "wan", "robust", "limbs"):
                fit = fit_alignment(driver, still, method)
                ours, true = (poses.keypoints[:, :17] for poses in (fit.apply(driver), truth))
                moves = (0, _hips(ours, true))
                off = [np.linalg.norm(ours - moved - true, axis=-1).mean() for moved in moves]
                foot = np.abs(ours[:, 15:, 1].max(1) - true[:, 15:, 1].max(1)).mean()
                limbs = [max(ratio, 1 / ratio) for ratio in fit.limbs.values()]
                row = [100 * each / height for each in (*off, foot)]
                found.setdefault(method, []).append([*row, max(limbs), 100 * np.mean(np.array(limbs) > 1.1)])
    return {method: np.mean(rows, 0) for method, rows in found.items()}


def _hips(ours: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How far the hips are off, [T, 1, 2]."""
    return (ours[:, 11:13] - true[:, 11:13]).mean(1, keepdims=True)


if __name__ == "__main__":
    sys.stdout.write("| character | fit | joints | about the hips | lower ankle | worst limb | limbs off |\n")
    for name, build in BUILDS.items():
        for method, (joints, about, ankle, worst, share) in measured(build).items():
            figures = f"{joints:.1f} | {about:.1f} | {ankle:.1f} | {worst:.2f} | {share:.0f} %"
            sys.stdout.write(f"| {name} | {method} | {figures} |\n")
