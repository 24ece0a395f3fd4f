"""Bones: joint angles and proportions -> joints in space.

Space has x to the picture's right, y up, z to the viewer; the floor is y = 0 and lengths are fractions of the
character's height. A dancer who faces the camera has their left at +x.
"""

import math
from dataclasses import dataclass

import numpy as np

from .character import Proportions
from .motion import Pose


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation [3, 3]: roll about z, then pitch about x (forwards), then yaw about y (to their left)."""
    sy, sp, sr = math.sin(yaw), math.sin(pitch), math.sin(roll)
    cy, cp, cr = math.cos(yaw), math.cos(pitch), math.cos(roll)
    return np.array(
        [
            [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
            [cp * sr, cp * cr, -sp],
            [cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp],
        ]
    )


def swing(sideways: float, forwards: float) -> np.ndarray:
    """Rodrigues' rotation [3, 3] about the vector (-forwards, 0, sideways): lifts a hanging arm, no twist."""
    angle = float(np.hypot(sideways, forwards))
    if angle < 1e-9:
        return np.eye(3)
    x, z = -forwards / angle, sideways / angle
    s, c = np.sin(angle), 1 - np.cos(angle)
    return np.array(
        [[1 - c * z * z, -s * z, c * x * z], [s * z, 1 - c, -s * x], [c * x * z, s * x, 1 - c * x * x]]
    )


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints in space, float64. A leading 2 is (left, right).

    `hands` [2, 21, 3] in COCO-WholeBody order; `feet` [2, 3, 3] big toe, small toe, heel; `face` [68, 3] in
    iBUG order; rotations turn a part's own axes (x to its left, y up, z forwards) into space.
    """

    pelvis: np.ndarray
    waist: np.ndarray
    neck: np.ndarray  # its base
    skull: np.ndarray  # centre of the head
    shoulders: np.ndarray
    elbows: np.ndarray
    wrists: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    hands: np.ndarray
    feet: np.ndarray
    face: np.ndarray
    pelvis_turn: np.ndarray
    chest_turn: np.ndarray
    head_turn: np.ndarray


FINGER_BASES = np.array([[0.455, 0.125], [0.47, 0.042], [0.45, -0.040], [0.415, -0.115]])
"""Knuckles of index to little finger: along the hand and towards the thumb, in hand lengths."""
FINGER_LENGTHS = np.array([0.445, 0.50, 0.46, 0.365])
PHALANGES = np.array([0.46, 0.30, 0.24])
CURLS = np.array([1.35, 1.75, 1.1])
"""Bend of the three finger joints in a fist, radians."""
FAN = np.array([0.30, 0.07, -0.14, -0.38])
"""Angles between spread fingers and the hand's axis, radians."""


def _hand(
    wrist: np.ndarray, rotation: np.ndarray, side: int, fingers: np.ndarray, length: float
) -> np.ndarray:
    """Hand joints [21, 3]. The hand's own axes: fingers along -y, thumb along +z, palm along -side * x."""
    joints = np.zeros((21, 3))
    palm = np.array([-float(side), 0.0, 0.0])
    fan = FAN * (0.25 + 0.75 * fingers[5])
    straight = np.stack([np.zeros(4), -np.cos(fan), np.sin(fan)], 1)
    bases = np.stack([np.zeros(4), -FINGER_BASES[:, 0], FINGER_BASES[:, 1]], 1)
    joints[[5, 9, 13, 17]] = bases
    angles = np.cumsum(fingers[1:5, None] * CURLS, 1)[..., None]  # [4 fingers, 3 joints, 1]
    steps = np.cos(angles) * straight[:, None] + np.sin(angles) * palm
    steps = steps * (FINGER_LENGTHS[:, None] * PHALANGES)[..., None]
    tips = bases[:, None] + np.cumsum(steps, 1)
    for finger in range(4):
        joints[6 + 4 * finger : 9 + 4 * finger] = tips[finger]
    curl, spread = fingers[0], fingers[5]
    out = 0.55 + 0.4 * spread - 0.25 * curl
    first = np.array([0.0, -np.cos(out), np.sin(out)]) + palm * (0.25 + 0.35 * curl)
    second = np.array([0.0, -np.cos(out - 0.25 - 0.9 * curl), np.sin(out - 0.25 - 0.9 * curl)])
    second += palm * (0.2 + 0.7 * curl)
    third = np.array([0.0, -np.cos(out - 0.35 - 1.6 * curl), np.sin(out - 0.35 - 1.6 * curl)])
    third += palm * (0.15 + 0.8 * curl)
    point = np.array([0.0, -0.10, 0.085])
    for joint, (step, size) in enumerate(((None, 0.0), (first, 0.21), (second, 0.17), (third, 0.14))):
        if step is not None:
            point = point + step * (size / np.linalg.norm(step))
        joints[1 + joint] = point
    return wrist + length * joints @ rotation.T


def _arm(
    body: Proportions, pose: np.ndarray, side: int, neck: np.ndarray, chest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shoulder, elbow, wrist [3] and the hand's rotation [3, 3]. Raised arms lift the shoulder with them."""
    sideways, forwards, twist, bend, pronation, flex, lean = pose
    raised = max(0.0, float(np.hypot(sideways, forwards)) - 0.9)
    shoulder = neck + chest @ np.array(
        [side * (body.shoulder - 0.012 * raised), -0.040 + 0.026 * raised, 0.0]
    )
    upper = chest @ swing(side * sideways, forwards) @ turn(side * twist, 0, 0)
    elbow = shoulder - body.upper_arm * upper[:, 1]
    lower = upper @ turn(0, -bend, 0)
    wrist = elbow - body.forearm * lower[:, 1]
    hand = lower @ turn(-side * pronation, 0, 0) @ turn(0, 0, -side * flex) @ turn(0, -lean, 0)
    return shoulder, elbow, wrist, hand


def _knee(hip: np.ndarray, ankle: np.ndarray, thigh: float, shin: float, forward: np.ndarray) -> np.ndarray:
    """The knee of a two-bone chain from hip to ankle that bends towards `forward` (law of cosines)."""
    line = ankle - hip
    distance = float(np.linalg.norm(line))
    axis = line / distance
    along = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    out = forward - axis * (forward @ axis)
    out /= np.linalg.norm(out)
    return hip + axis * along + out * np.sqrt(max(thigh**2 - along**2, 0.0))


def _legs(body: Proportions, pose: Pose, rotation: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pelvis [3], hips, knees, ankles [2, 3], feet [2, 3, 3]: feet stand, hips as high as the legs reach."""
    leg = body.thigh + body.shin
    sides = np.array([1.0, -1.0])
    ankles, forwards = np.zeros((2, 3)), np.zeros((2, 3))
    facing = np.arctan2(rotation[0, 2], rotation[2, 2])
    (sf, cf) = np.sin(0.8 * facing), np.cos(0.8 * facing)
    for index, side in enumerate(sides):
        x, z, lift, out = pose.feet[index]
        across = side * (body.hip + x * leg)
        ankles[index] = across * cf + z * leg * sf, body.ankle + lift * leg, z * leg * cf - across * sf
        yaw = 0.8 * facing + side * out
        forwards[index] = np.sin(yaw), 0.0, np.cos(yaw)
    offsets = np.stack([sides * body.hip, np.full(2, -0.01), np.zeros(2)], 1) @ rotation.T
    pelvis = np.array([pose.root[0] * leg, 0.0, float(np.mean(ankles[:, 2])) * 0.7])
    reach = 0.99 * leg
    flat = (ankles - offsets - pelvis)[:, [0, 2]]
    heights = (
        ankles[:, 1] - offsets[:, 1] + np.sqrt(np.maximum(reach**2 - (flat**2).sum(1), (0.5 * leg) ** 2))
    )
    soft = 0.012  # a smooth minimum: no jolt when the weight changes feet
    pelvis[1] = -soft * np.log(np.exp(-(heights - heights.min()) / soft).sum()) + heights.min()
    pelvis[1] -= pose.root[1] * leg
    hips = pelvis + offsets
    knees, feet = np.zeros((2, 3)), np.zeros((2, 3, 3))
    for index, side in enumerate(sides):
        line = ankles[index] - hips[index]
        distance = np.linalg.norm(line)
        ankles[index] = hips[index] + line * min(
            1.0,
            0.995 * leg / distance,
        )
        ahead, lift = forwards[index], pose.feet[index, 2]
        knees[index] = _knee(
            hips[index], ankles[index], body.thigh, body.shin, ahead + np.array([0.0, 1e-3, 0.0])
        )
        aside = side * np.array([ahead[2], 0.0, -ahead[0]])
        droop = np.array([0.0, -1.0, 0.0]) * min(0.5, 1.6 * lift)  # the toes of a lifted foot hang
        toes = (ahead + droop) / np.linalg.norm(ahead + droop)
        floor = ankles[index] - [0.0, body.ankle * 0.72, 0.0]
        feet[index, 0] = floor + toes * body.foot * 0.74 - aside * body.foot * 0.12
        feet[index, 1] = floor + toes * body.foot * 0.62 + aside * body.foot * 0.17
        feet[index, 2] = floor - toes * body.foot * 0.26
    return pelvis, hips, knees, ankles, feet


def _face_template() -> np.ndarray:
    """iBUG's 68 points [68, 3] on a head of height 1 centred at 0; x to the head's left, z forwards."""
    points = np.zeros((68, 2))
    angle = np.linspace(0, np.pi, 17)
    points[:17] = np.stack(
        [-0.33 * np.cos(angle) * (1 - 0.16 * np.sin(angle) ** 2), -0.465 * np.sin(angle)], 1
    )
    brow = np.array([[-0.275, 0.10], [-0.23, 0.128], [-0.175, 0.138], [-0.115, 0.132], [-0.06, 0.115]])
    eye = np.array(
        [[-0.225, 0.015], [-0.18, 0.050], [-0.12, 0.050], [-0.075, 0.008], [-0.12, -0.014], [-0.18, -0.012]]
    )
    mirror = np.array([-1.0, 1.0])
    points[17:22], points[22:27] = brow, (brow * mirror)[::-1]
    points[27:31] = [[0, 0.025], [0, -0.03], [0, -0.085], [0, -0.135]]
    points[31:36] = [[-0.068, -0.165], [-0.035, -0.175], [0, -0.182], [0.035, -0.175], [0.068, -0.165]]
    points[36:42], points[42:48] = eye, (eye * mirror)[[3, 2, 1, 0, 5, 4]]
    outer = [[-0.135, -0.285], [-0.085, -0.262], [-0.03, -0.25], [0, -0.256], [0.03, -0.25], [0.085, -0.262]]
    outer += [
        [0.135, -0.285],
        [0.08, -0.325],
        [0.035, -0.338],
        [0, -0.340],
        [-0.035, -0.338],
        [-0.08, -0.325],
    ]
    inner = [[-0.115, -0.285], [-0.04, -0.28], [0, -0.283], [0.04, -0.28]]
    inner += [[0.115, -0.285], [0.04, -0.297], [0, -0.30], [-0.04, -0.297]]
    points[48:60], points[60:68] = outer, inner
    depth = 0.43 * np.sqrt(np.clip(1 - (points[:, 0] / 0.40) ** 2, 0, 1)) - 0.25 * points[:, 1] ** 2
    depth[:17] = 0.02 + 0.20 * np.sin(angle)
    depth[27:31] += [0.0, 0.03, 0.06, 0.10]
    depth[31:36] += [0.01, 0.04, 0.06, 0.04, 0.01]
    return np.column_stack([points, depth])


FACE = _face_template()
EAR_POINTS = np.array([[0.375, -0.02, -0.02], [-0.375, -0.02, -0.02]])


def _face(body: Proportions, pose: Pose, skull: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Face points [68, 3] with the mouth opened, the smile and the eyelids of the pose."""
    face = FACE.copy()
    opening, smile, closing = pose.face
    lower = [55, 56, 57, 58, 59, 65, 66, 67]
    face[lower, 1] -= 0.05 * opening
    face[5:12, 1] -= 0.02 * opening
    corners = [48, 54, 60, 64]
    face[corners, 1] += 0.028 * smile
    face[corners, 0] *= 1 + 0.12 * smile
    for lid, base in ((37, 41), (38, 40), (43, 47), (44, 46)):
        face[lid, 1] += closing * 0.9 * (face[base, 1] - face[lid, 1])
    return skull + body.head * face @ rotation.T


def skeleton(body: Proportions, pose: Pose) -> Skeleton:
    """Forward kinematics of trunk, arms and hands; two-bone inverse kinematics of the legs."""
    pelvis_turn = turn(pose.root[2], pose.root[3], pose.root[4])
    chest_turn = pelvis_turn @ turn(*pose.spine)
    head_turn = chest_turn @ turn(*pose.head)
    pelvis, hips, knees, ankles, feet = _legs(body, pose, pelvis_turn)
    waist = pelvis + 0.36 * body.torso * pelvis_turn[:, 1]
    neck = waist + 0.64 * body.torso * chest_turn[:, 1]
    nape = neck + body.neck * chest_turn[:, 1]
    skull = nape + body.head * (head_turn @ np.array([0.0, 0.5, 0.10]))
    arms = [_arm(body, pose.arms[i], side, neck, chest_turn) for i, side in enumerate((1, -1))]
    hands = [
        _hand(arm[2], arm[3], side, f, body.hand)
        for arm, side, f in zip(arms, (1, -1), pose.fingers, strict=True)
    ]
    return Skeleton(
        pelvis=pelvis,
        waist=waist,
        neck=neck,
        skull=skull,
        shoulders=np.stack([arm[0] for arm in arms]),
        elbows=np.stack([arm[1] for arm in arms]),
        wrists=np.stack([arm[2] for arm in arms]),
        hips=hips,
        knees=knees,
        ankles=ankles,
        hands=np.stack(hands),
        feet=feet,
        face=_face(body, pose, skull, head_turn),
        pelvis_turn=pelvis_turn,
        chest_turn=chest_turn,
        head_turn=head_turn,
    )


def joints_133(bones: Skeleton, head: float) -> np.ndarray:
    """COCO-WholeBody's 133 points in space [133, 3]; `head` is the head's height."""
    points = np.zeros((133, 3))
    points[0] = bones.face[30]
    points[1] = bones.face[42:48].mean(0)  # the dancer's left eye
    points[2] = bones.face[36:42].mean(0)
    points[3:5] = bones.skull + head * EAR_POINTS @ bones.head_turn.T
    points[5:17:2] = [
        part[0]
        for part in (bones.shoulders, bones.elbows, bones.wrists, bones.hips, bones.knees, bones.ankles)
    ]
    points[6:17:2] = [
        part[1]
        for part in (bones.shoulders, bones.elbows, bones.wrists, bones.hips, bones.knees, bones.ankles)
    ]
    points[17:23] = bones.feet.reshape(6, 3)
    points[23:91] = bones.face
    points[91:133] = bones.hands.reshape(42, 3)
    return points
