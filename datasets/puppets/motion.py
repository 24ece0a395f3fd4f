"""Dances: joint angles as a function of time, from key poses, steps and oscillators.

Nothing here knows a bone's length: angles are radians and the feet stand in leg lengths, so that any
character can dance any motion.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

ROOT, SPINE, HEAD = slice(0, 5), slice(5, 8), slice(8, 11)
ARMS, FINGERS, FEET, FACE = slice(11, 25), slice(25, 37), slice(37, 45), slice(45, 48)
SIZE = 48


@dataclass(frozen=True, slots=True)
class Pose:
    """Joint angles of one moment. Index 0 of a pair is the dancer's left.

    `root` [5]: sway to the dancer's left and sinking of the hips (leg lengths), then yaw, pitch, roll.
    `spine` [3], `head` [3]: yaw, pitch, roll against the part below. Yaw turns to the dancer's left, pitch
    leans forward.
    `arms` [2, 7]: raise sideways, raise forwards (together one rotation vector from hanging down), twist
    outwards, elbow bend, pronation, wrist bend to the palm, wrist bend to the thumb.
    `fingers` [2, 6]: curl 0 to 1 of thumb, index, middle, ring, little; spread 0 to 1.
    `feet` [2, 4]: x outwards from under the hip, z forwards, height above the floor (leg lengths), turn-out.
    `face` [3]: mouth opening, smile, closing of the eyes, each 0 to 1.
    """

    root: np.ndarray
    spine: np.ndarray
    head: np.ndarray
    arms: np.ndarray
    fingers: np.ndarray
    feet: np.ndarray
    face: np.ndarray


@dataclass(frozen=True, slots=True)
class Track:
    """Key poses of some of the angles: one each `spacing` beats, reached with eased starts and stops.

    `keys` [N, D] repeat for ever; `bumps` [N, D] are added as sin^2 between key n and n + 1 (lifted feet).
    """

    angles: slice
    spacing: float
    keys: np.ndarray
    bumps: np.ndarray

    def at(self, beats: float) -> np.ndarray:
        count, share = divmod(beats / self.spacing, 1.0)
        index = int(count) % len(self.keys)
        eased = share**3 * (share * (6 * share - 15) + 10)  # smootherstep: no jump in speed or acceleration
        here, there = self.keys[index], self.keys[(index + 1) % len(self.keys)]
        return here + eased * (there - here) + np.sin(np.pi * share) ** 2 * self.bumps[index]


@dataclass(frozen=True, slots=True)
class Motion:
    """A dance: tracks of key poses plus oscillators in step with the beat. Defined for every frame index.

    `beat` is in seconds; `waves` rows are (angle index, amplitude, cycles per beat, phase in cycles).
    """

    seed: int
    fps: Fraction
    beat: float
    tracks: tuple[Track, ...]
    waves: np.ndarray

    def pose(self, frame: int) -> Pose:
        """The pose of this frame, kept within the joints' limits."""
        beats = float(Fraction(frame) / self.fps) / self.beat
        angles = np.zeros(SIZE)
        for track in self.tracks:
            angles[track.angles] += track.at(beats)
        index, amplitude, cycles, phase = self.waves.T
        np.add.at(angles, index.astype(int), amplitude * np.sin(2 * np.pi * (cycles * beats + phase)))
        angles = np.clip(angles, LOWER, UPPER)
        return Pose(
            root=angles[ROOT],
            spine=angles[SPINE],
            head=angles[HEAD],
            arms=angles[ARMS].reshape(2, 7),
            fingers=angles[FINGERS].reshape(2, 6),
            feet=angles[FEET].reshape(2, 4),
            face=angles[FACE],
        )


def _limits() -> tuple[np.ndarray, np.ndarray]:
    """Joint limits, as wide as a trained dancer's."""
    arm_low, arm_high = np.radians([[-20, -40, -95, 0, -95, -60, -25], [172, 120, 100, 148, 95, 70, 35]])
    low = [[-0.5, -0.05, -1.4, -0.3, -0.35], [-0.6, -0.35, -0.4], [-0.9, -0.45, -0.45], arm_low, arm_low]
    high = [[0.5, 0.35, 1.4, 0.4, 0.35], [0.6, 0.55, 0.4], [0.9, 0.5, 0.45], arm_high, arm_high]
    low += [np.zeros(12), [-0.25, -0.5, 0, -0.3] * 2, np.zeros(3)]
    high += [np.ones(12), [0.6, 0.5, 0.6, 0.9] * 2, np.ones(3)]
    return np.concatenate(low), np.concatenate(high)


LOWER, UPPER = _limits()

ARM_POSES = {  # degrees, in the order of Pose.arms
    "down": (13, 6, 10, 18, -15, 0, 0),
    "hips": (50, -14, -84, 100, 10, 15, 0),
    "spread": (86, 4, 10, 8, -60, 0, 0),
    "low": (45, 8, 20, 12, -50, 0, 0),
    "cactus": (84, 8, 86, 92, 0, 0, 0),
    "vee": (142, 8, 50, 12, -40, 0, 0),
    "up": (162, 6, 50, 22, -40, 0, 0),
    "circle": (130, 10, 84, 62, -20, 0, 0),
    "wave": (98, 10, 82, 55, -5, 0, 0),
    "reach": (38, 62, 20, 30, 70, -20, 0),
    "clap": (16, 46, -38, 72, 10, 0, 5),
    "over": (-8, 56, -72, 84, 20, 0, 0),
    "under": (-8, 42, -72, 88, 20, 0, 0),
    "sweep": (-16, 30, -78, 45, -30, 0, 0),
    "neck": (112, 4, 80, 128, 0, 10, 0),
    "fold": (66, 40, -40, 112, 30, 0, 0),
    "pump": (22, 12, 10, 98, 10, 0, 0),
    "flex": (78, 10, 84, 122, 30, 20, 0),
    "breeze": (60, 12, 60, 70, -20, -10, 0),
}
"""Arm key poses; those with raised hands turn the palm to the viewer."""
PAIRS = (  # left and right arm, as often as they stand here
    *[(name, name) for name in ARM_POSES if name not in ("over", "under", "sweep")],
    ("over", "under"),
    ("over", "under"),
    ("sweep", "under"),
    ("sweep", "breeze"),
    ("over", "spread"),
    ("vee", "low"),
    ("vee", "hips"),
    ("wave", "hips"),
    ("up", "spread"),
    ("cactus", "pump"),
    ("spread", "fold"),
    ("neck", "hips"),
    ("up", "breeze"),
    ("wave", "down"),
    ("reach", "hips"),
    ("cactus", "low"),
    ("circle", "hips"),
    ("vee", "over"),
    ("neck", "spread"),
)
HAND_SHAPES = np.array(  # thumb, index, middle, ring, little, spread
    [
        [0.15, 0.08, 0.05, 0.06, 0.10, 0.55],
        [0.00, 0.00, 0.00, 0.00, 0.00, 1.00],
        [0.30, 0.25, 0.30, 0.33, 0.36, 0.30],
        [0.90, 0.95, 0.97, 0.97, 0.95, 0.00],
        [0.80, 0.02, 0.92, 0.95, 0.95, 0.20],
        [0.85, 0.02, 0.02, 0.92, 0.95, 0.80],
        [0.10, 0.85, 0.92, 0.92, 0.90, 0.20],
    ]
)
SHAPE_ODDS = (0.26, 0.24, 0.2, 0.1, 0.08, 0.07, 0.05)
COUNTS = 16
"""Key poses in a track before it repeats."""


def _arm_track(rng: np.random.Generator, spacing: float) -> tuple[Track, Track]:
    arms, fingers = np.zeros((COUNTS, 2, 7)), np.zeros((COUNTS, 2, 6))
    previous = -1
    for key in range(COUNTS):
        pick = int(rng.integers(len(PAIRS)))
        pick = (pick + 1) % len(PAIRS) if pick == previous else pick
        previous = pick
        pair = PAIRS[pick] if rng.uniform() < 0.5 else PAIRS[pick][::-1]
        arms[key] = np.radians([ARM_POSES[name] for name in pair])
        noise = rng.normal(0, np.radians([6, 5, 5, 7, 9, 6, 4]), (1 if pair[0] == pair[1] else 2, 7))
        arms[key] += np.clip(noise, -0.25, 0.25)
        shape = rng.choice(len(HAND_SHAPES), 2, p=SHAPE_ODDS)
        fingers[key] = HAND_SHAPES[shape if rng.uniform() < 0.3 else shape[[0, 0]]]
    flat_arms, flat_fingers = arms.reshape(COUNTS, 14), fingers.reshape(COUNTS, 12)
    return (
        Track(ARMS, spacing, flat_arms, np.zeros_like(flat_arms)),
        Track(FINGERS, spacing, flat_fingers, np.zeros_like(flat_fingers)),
    )


def _step_tracks(rng: np.random.Generator) -> tuple[Track, Track]:
    """Feet and hips: standing, side steps, marching, kicks, steps to and fro or crossing, one foot a beat."""
    style = rng.choice(6, p=[0.22, 0.26, 0.16, 0.1, 0.12, 0.14])
    stance, turn_out = rng.uniform(0.03, 0.12), rng.uniform(0.12, 0.45)
    feet = np.tile([stance, 0.0, 0.0, turn_out], (COUNTS, 2, 1))
    bumps, sway = np.zeros((COUNTS, 2, 4)), np.zeros(COUNTS)
    width, lift = rng.uniform(0.1, 0.22), rng.uniform(0.04, 0.1)
    for beat in range(COUNTS):
        bar, moving = beat % 4, beat % 2
        weight = -1.0 if moving == 0 else 1.0  # over the foot that stays: the left one moves on even beats
        if style == 1:  # out and together, left then right
            side = 0 if bar < 2 else 1
            sway[(beat + 1) % COUNTS] = (1 if side == 0 else -1) * width * (0.9 if moving == 0 else 0.3)
            feet[(beat + 1) % COUNTS, side, 0] += width if moving == 0 else 0
            bumps[beat, side, 2] = lift
        elif style in (2, 3):  # march or kick on the spot
            bumps[beat, moving, 2] = lift * 3.2 if style == 2 else lift * 2
            bumps[beat, moving, 1] = 0.06 if style == 2 else 0.35
            bumps[beat, moving, 0] = 0.02 if style == 2 else 0.08
            sway[beat] = 0.05 * weight
        elif style == 4:  # forwards and back
            feet[(beat + 1) % COUNTS, moving, 1] = 0.16 if bar < 2 else -0.04
            bumps[beat, moving, 2] = lift
            sway[beat] = 0.04 * weight
        elif style == 5 and moving == 0:  # one foot crosses in front of the other and comes back
            feet[(beat + 1) % COUNTS, bar // 2, :2] = -0.13, 0.12
            bumps[beat, bar // 2, 2] = lift
            bumps[(beat + 1) % COUNTS, bar // 2, 2] = lift
    root = np.zeros((COUNTS, 5))
    root[:, 0] = sway
    root[:, 1] = rng.choice([0.0, 0.05, 0.13], COUNTS, p=[0.7, 0.2, 0.1])  # now and then a deep bend
    flat = feet.reshape(COUNTS, 8)
    return Track(FEET, 1.0, flat, bumps.reshape(COUNTS, 8)), Track(ROOT, 1.0, root, np.zeros_like(root))


def _turn_tracks(rng: np.random.Generator) -> tuple[Track, Track, Track]:
    """Slow turns of hips, chest and head; the head mostly turns back to the viewer."""
    reach = rng.choice([0.2, 0.45, 0.9], p=[0.4, 0.4, 0.2])
    root, spine, head = np.zeros((COUNTS, 5)), np.zeros((COUNTS, 3)), np.zeros((COUNTS, 3))
    root[:, 2] = rng.uniform(-reach, reach, COUNTS)
    spine[:, 0] = rng.uniform(-0.3, 0.3, COUNTS)
    spine[:, 1] = rng.uniform(-0.05, 0.14, COUNTS)
    spine[:, 2] = rng.uniform(-0.15, 0.15, COUNTS)
    head[:, 0] = -0.65 * (root[:, 2] + spine[:, 0]) + rng.uniform(-0.25, 0.25, COUNTS)
    head[:, 1] = rng.uniform(-0.12, 0.15, COUNTS) - spine[:, 1]
    head[:, 2] = rng.uniform(-0.15, 0.15, COUNTS)
    return tuple(  # type: ignore[return-value]
        Track(angles, 4.0, keys, np.zeros_like(keys))
        for angles, keys in ((ROOT, root), (SPINE, spine), (HEAD, head))
    )


def _waves(rng: np.random.Generator) -> np.ndarray:
    """The groove: bounce, hip sway, chest and head in step with the beat, and some swing of the arms."""
    phase, energy = rng.uniform(0, 1), rng.uniform(0.5, 1.2)
    root, spine, head, arms, fingers = ROOT.start, SPINE.start, HEAD.start, ARMS.start, FINGERS.start
    rows = [
        (root + 1, 0.022 * energy, 1.0, phase),
        (root + 0, rng.uniform(0.0, 0.05) * energy, 0.5, phase),
        (root + 4, rng.uniform(0.02, 0.1) * energy, 0.5, phase + 0.1),
        (root + 2, rng.uniform(0.0, 0.12) * energy, 0.5, rng.uniform()),
        (spine + 0, rng.uniform(0.02, 0.12) * energy, 0.5, rng.uniform()),
        (spine + 2, -rng.uniform(0.02, 0.1) * energy, 0.5, phase + 0.1),
        (head + 1, rng.uniform(0.02, 0.08) * energy, 1.0, phase + 0.2),
        (head + 2, rng.uniform(0.0, 0.08) * energy, 0.5, rng.uniform()),
        (FACE.start, 0.25, 0.25, rng.uniform()),
        (FACE.start, 0.15, 0.5, rng.uniform()),
        (FACE.start + 2, 0.0, 1.0, 0.0),
    ]
    opposite = rng.uniform() < 0.5
    shift = rng.uniform()
    for side in range(2):
        start = shift + (0.5 if side and opposite else 0.0)
        for joint, most in enumerate((0.16, 0.12, 0.1, 0.22, 0.15, 0.2, 0.1)):
            amplitude = rng.uniform(0.1, 1.0) * most * energy
            rows.append(
                (arms + 7 * side + joint, amplitude, rng.choice([0.5, 1.0]), start + rng.uniform(0, 0.2))
            )
        close = rng.uniform(0.0, 0.3)  # fingers open and close one after the other
        rows += [(fingers + 6 * side + n, close, 0.5, start + 0.06 * n) for n in range(5)]
    return np.array(rows, float)


def make_motion(seed: int, fps: Fraction) -> Motion:
    """The dance of this seed at this frame rate; equal seeds give the same dance at every rate."""
    rng = np.random.default_rng([seed, 2])
    beat = float(rng.uniform(0.46, 0.64))
    arms, fingers = _arm_track(rng, 2.0)
    face = np.tile([0.2, rng.uniform(0.2, 0.9), 0.0], (COUNTS, 1))
    blinks = np.zeros_like(face)
    blinks[:, 2] = rng.uniform(size=COUNTS) < 0.35
    tracks = (
        arms,
        fingers,
        *_step_tracks(rng),
        *_turn_tracks(rng),
        Track(FACE, 0.75, face, blinks),
    )
    return Motion(seed, Fraction(fps), beat, tracks, _waves(rng))


REFERENCE_ARMS = (("down", "down"), ("low", "low"), ("hips", "hips"), ("hips", "low"), ("breeze", "breeze"))


def reference_pose(seed: int) -> Motion:
    """A calm stand, the same at every frame, slightly different by seed: the pose of reference pictures."""
    rng = np.random.default_rng([seed, 4])
    angles = np.zeros(SIZE)
    names = REFERENCE_ARMS[rng.choice(len(REFERENCE_ARMS), p=[0.3, 0.35, 0.1, 0.1, 0.15])]
    arms = np.radians([ARM_POSES[name] for name in names]) + rng.normal(
        0, 0.05, (1 if names[0] == names[1] else 2, 7)
    )
    angles[ARMS] = arms.reshape(14)
    angles[FINGERS] = np.tile(HAND_SHAPES[rng.choice(3)], 2)
    angles[FEET] = np.tile([rng.uniform(0.02, 0.1), 0, 0, rng.uniform(0.15, 0.4)], 2)
    angles[ROOT][2:] = rng.uniform(-1, 1, 3) * (0.2, 0.03, 0.04)
    angles[SPINE] = rng.uniform(-1, 1, 3) * (0.12, 0.04, 0.05)
    angles[HEAD] = rng.uniform(-1, 1, 3) * (0.15, 0.08, 0.06)
    angles[FACE] = (0.1, rng.uniform(0.3, 0.9), 0.0)
    track = Track(slice(0, SIZE), 1.0, angles[None], np.zeros((1, SIZE)))
    return Motion(seed, Fraction(15), 1.0, (track,), np.zeros((0, 4)))
