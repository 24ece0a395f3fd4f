"""Who dances: proportions, clothes, colours, room and framing of a procedural dancer, all from one seed.

Lengths are fractions of the character's height unless said otherwise.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

PARTS = (
    "background",
    "head",
    "hair",
    "neck",
    "torso",
    "left_sleeve",
    "right_sleeve",
    "left_arm",
    "right_arm",
    "left_hand",
    "right_hand",
    "hips",
    "left_leg",
    "right_leg",
    "left_calf",
    "right_calf",
    "left_shoe",
    "right_shoe",
)
"""Names of the values of `PuppetFrame.parts`. "left" is the dancer's own left. An arm or a calf is bare skin;
"hips" and the legs are the lower garment."""

RGB = tuple[int, int, int]

SKINS: tuple[RGB, ...] = (
    (244, 208, 182),
    (232, 186, 150),
    (219, 165, 126),
    (198, 140, 102),
    (166, 112, 78),
    (134, 88, 62),
    (104, 68, 50),
)
HAIRS: tuple[RGB, ...] = (
    (38, 30, 30),
    (66, 44, 32),
    (104, 66, 40),
    (158, 106, 56),
    (206, 164, 96),
    (150, 62, 34),
    (176, 176, 182),
    (92, 60, 128),
    (40, 92, 128),
)
HAIR_STYLES = ("short", "side", "bob", "long", "bun", "ponytail", "afro", "crop")
TOPS = ("plain", "striped", "emblem", "plain", "striped", "emblem", "vertical")
EMBLEMS = ("disc", "diamond", "ring", "square")
BOTTOMS = ("trousers", "trousers", "trousers", "shorts", "skirt")


@dataclass(frozen=True, slots=True)
class Proportions:
    """Bone lengths and half-widths, in fractions of the height; `stature` scales the drawn figure."""

    stature: float
    head: float  # chin to crown
    neck: float
    torso: float  # hip joints to the base of the neck
    thigh: float
    shin: float
    ankle: float  # height of the ankle above the floor
    foot: float
    shoulder: float  # half the distance between the shoulder joints
    hip: float  # half the distance between the hip joints
    upper_arm: float
    forearm: float
    hand: float  # wrist to the tip of the middle finger
    limb: float  # scale of limb radii
    chest: float  # scale of the torso's half-widths
    waist: float


@dataclass(frozen=True, slots=True)
class Outfit:
    """Cut and colours of clothes and hair. `sleeve` and `leg` are the covered shares of arm and leg."""

    skin: RGB
    hair: RGB
    hair_style: str
    top: RGB
    pattern: str  # one of TOPS
    pattern_colour: RGB
    emblem: str  # one of EMBLEMS
    stripes: float  # stripes along the torso
    sleeve: float
    hem: float  # where the top ends, in torso lengths above the hip joints
    bottom: RGB
    cut: str  # one of BOTTOMS
    leg: float
    flare: float  # widening of the lower garment at its end
    shoes: RGB
    hands: RGB  # the skin's, or the gloves'
    lips: RGB
    eyes: RGB


@dataclass(frozen=True, slots=True)
class Room:
    """The background: colours of wall and floor, and how much stands around (0 is an empty room)."""

    seed: int
    wall: RGB
    floor: RGB
    clutter: int
    light: tuple[float, float, float]  # unit vector towards the light; x right, y down, z to the viewer


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the camera puts the figure, whatever the picture's size.

    `zoom` 1 shows the whole body with room for spread arms; 1.8 shows the upper body. `centre` is the
    figure's x in picture widths; `floor` the y of the floor in picture heights at zoom 1 (closer framings
    keep the head where it is); `pitch` the camera's downward tilt in radians. Above 0, `cut` is where on the
    body the lower edge of the picture lies, in character heights: then the size follows from it alone, and
    `floor` is the room above the crown, in picture heights.
    """

    zoom: float
    centre: float
    floor: float
    pitch: float
    cut: float = 0.0


@dataclass(frozen=True, slots=True)
class Character:
    """One dancer with clothes, room and default framing. Hashable; equal seeds give equal characters."""

    seed: int
    proportions: Proportions
    outfit: Outfit
    room: Room
    framing: Framing
    blur: float  # standard deviation of the lens blur, in thousandths of the picture's height
    noise: float  # standard deviation of the sensor noise, in 8-bit levels

    @property
    def colours(self) -> dict[str, RGB]:
        """RGB of each part in PARTS under full light (the background's is the wall's)."""
        outfit = self.outfit
        sides = {
            "sleeve": outfit.top,
            "arm": outfit.skin,
            "hand": outfit.hands,
            "leg": outfit.bottom,
            "calf": outfit.skin,
            "shoe": outfit.shoes,
        }
        colours = {
            "background": self.room.wall,
            "head": outfit.skin,
            "hair": outfit.hair,
            "neck": outfit.skin,
            "torso": outfit.top,
            "hips": outfit.bottom,
        }
        return colours | {f"{side}_{name}": rgb for side in ("left", "right") for name, rgb in sides.items()}


def _hsv(hue: float, saturation: float, value: float) -> RGB:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _garments(rng: np.random.Generator) -> tuple[RGB, RGB, RGB, RGB, RGB]:
    """Colours of top, its pattern, bottom, shoes and gloves: hues a fifth of the wheel or more apart."""
    hues = (rng.uniform() + np.arange(4) / 4 + rng.uniform(-0.025, 0.025, 4))[rng.permutation(4)]
    top = _hsv(hues[0], rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95))
    light = sum(top) > 380
    pattern = _hsv(hues[3], rng.uniform(0.2, 0.7), 0.3 if light else 0.97)
    bottom = _hsv(hues[1], rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.6))
    shoes = _hsv(hues[2], rng.uniform(0.7, 1.0), rng.uniform(0.75, 1.0))
    if rng.uniform() < 0.15:
        shoes = (238, 238, 234)
    gloves = _hsv(hues[3], rng.uniform(0.55, 0.9), rng.uniform(0.8, 1.0))
    return top, pattern, bottom, shoes, gloves


def _proportions(rng: np.random.Generator) -> Proportions:
    """From a child of about six (`age` 0) to a tall adult (1); adult figures are the more frequent."""
    age = float(min(1.0, rng.uniform(0.0, 1.7)))
    head = np.interp(age, [0, 0.5, 1], [0.172, 0.150, 0.134]) * rng.uniform(0.97, 1.04)
    ankle = 0.042
    leg = np.interp(age, [0, 1], [0.445, 0.478]) * rng.uniform(0.975, 1.025)
    neck = np.interp(age, [0, 1], [0.018, 0.026])
    torso = 1.0 - head - neck - leg - ankle
    build = rng.uniform(0.9, 1.16)
    arm = np.interp(age, [0, 1], [0.285, 0.312]) * rng.uniform(0.97, 1.04)
    return Proportions(
        stature=float(np.interp(age, [0, 1], [0.87, 1.0]) * rng.uniform(0.97, 1.03)),
        head=float(head),
        neck=float(neck),
        torso=float(torso),
        thigh=float(leg * 0.51),
        shin=float(leg * 0.49),
        ankle=ankle,
        foot=float(rng.uniform(0.145, 0.165)),
        shoulder=float(rng.uniform(0.098, 0.114) * build**0.5),
        hip=float(rng.uniform(0.045, 0.052)),
        upper_arm=float(arm * 0.53),
        forearm=float(arm * 0.47),
        hand=float(rng.uniform(0.112, 0.128)),
        limb=float(build * np.interp(age, [0, 1], [1.06, 1.0])),
        chest=float(build),
        waist=float(build * rng.uniform(0.86, 1.04)),
    )


def _outfit(rng: np.random.Generator) -> Outfit:
    top, pattern_colour, bottom, shoes, gloves = _garments(rng)
    skin = SKINS[rng.integers(len(SKINS))]
    cut = BOTTOMS[rng.integers(len(BOTTOMS))]
    leg = {
        "trousers": rng.uniform(0.96, 1.0),
        "shorts": rng.uniform(0.32, 0.5),
        "skirt": rng.uniform(0.3, 0.5),
    }
    return Outfit(
        skin=skin,
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        top=top,
        pattern=TOPS[rng.integers(len(TOPS))],
        pattern_colour=pattern_colour,
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))],
        stripes=float(rng.uniform(4, 7)),
        sleeve=float(rng.choice([0.12, 0.28, 0.32, 0.45, 0.97])),
        hem=float(rng.uniform(-0.02, 0.16)),
        bottom=bottom,
        cut=cut,
        leg=float(leg[cut]),
        flare=float(rng.choice([0.95, 1.1, 1.35])),
        shoes=shoes,
        hands=gloves if rng.uniform() < 0.25 else skin,
        lips=tuple(int(c * k) for c, k in zip(skin, (0.86, 0.55, 0.56), strict=True)),  # type: ignore[arg-type]
        eyes=((62, 42, 30), (58, 88, 120), (70, 96, 60))[rng.integers(3)],
    )


def _room(rng: np.random.Generator) -> Room:
    wall = _hsv(rng.uniform(), rng.uniform(0.02, 0.16), rng.uniform(0.62, 0.9))
    floor = _hsv(rng.uniform(0.02, 0.14), rng.uniform(0.08, 0.3), rng.uniform(0.42, 0.68))
    light = np.array([rng.choice([-1, 1]) * rng.uniform(0.25, 0.6), -rng.uniform(0.45, 0.75), 0.75])
    light /= np.linalg.norm(light)
    clutter = int(rng.choice([0, 0, 3, 6, 10]))
    return Room(
        int(rng.integers(2**31)), wall, floor, clutter, (float(light[0]), float(light[1]), float(light[2]))
    )


def make_framing(seed: int) -> Framing:
    """A framing by seed: the whole body in seven of ten, else, in wide pictures, from knees or waist up.

    A picture of 9:16 is so narrow that it shows nearly the whole body then too: `half_body` cuts it.
    """
    rng = np.random.default_rng([seed, 3])
    low, high = ((0.95, 1.12), (1.25, 1.45), (1.6, 1.9))[rng.choice(3, p=[0.7, 0.2, 0.1])]
    return Framing(
        zoom=float(rng.uniform(low, high)),
        centre=float(rng.uniform(0.46, 0.54)),
        floor=float(rng.uniform(0.86, 0.93)),
        pitch=float(rng.uniform(0.05, 0.16)),
    )


def make_character(seed: int) -> Character:
    """The character of this seed, with a room and a framing of its own."""
    rng = np.random.default_rng([seed, 1])
    return Character(
        seed=seed,
        proportions=_proportions(rng),
        outfit=_outfit(rng),
        room=_room(rng),
        framing=make_framing(seed),
        blur=float(rng.uniform(0.4, 0.9)),
        noise=float(rng.uniform(0.8, 2.5)),
    )
