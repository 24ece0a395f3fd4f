"""What a drawn character looks like, in words: the prompt that goes with its picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from .character import BOTTOMS, RGB, TOPS, Character

COLOURS: dict[str, RGB] = {
    "white": (240, 240, 240),
    "gray": (140, 140, 140),
    "black": (30, 30, 30),
    "red": (200, 45, 45),
    "orange": (230, 130, 40),
    "yellow": (235, 205, 70),
    "green": (60, 150, 70),
    "teal": (40, 150, 150),
    "blue": (50, 90, 200),
    "purple": (125, 65, 170),
    "pink": (225, 110, 165),
    "brown": (110, 75, 45),
    "beige": (220, 195, 160),
}
"""The colours that prompts name."""


def colour_name(colour: RGB) -> str:
    """The nearest of COLOURS, in CIELAB."""
    names = list(COLOURS)
    table = np.array([colour, *COLOURS.values()], np.float32)[None] / 255
    lab = cv2.cvtColor(table, cv2.COLOR_RGB2LAB)[0]
    return names[int(np.linalg.norm(lab[1:] - lab[0], axis=1).argmin())]


NOUNS = ("hair", "top", "bottom", "shoes", "wall")
"""What has a colour in a description; a bottom is called by its cut."""
WORDS = (
    *COLOURS,
    *dict.fromkeys(word for word in (*TOPS, *BOTTOMS) if word != "plain"),
    *("a", "dancer", "with", "hair", "in", "top", "and", "shoes", "wall"),
)
"""All words of descriptions."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a description says: a colour of COLOURS for each of NOUNS, the top's pattern, the bottom's cut."""

    colours: dict[str, str]
    pattern: str
    cut: str


def look_of(character: Character) -> Look:
    """What a character looks like, in the words that we have."""
    outfit, room = character.outfit, character.room
    shown = (outfit.hair, outfit.top, outfit.bottom, outfit.shoes, room.wall)
    colours = {noun: colour_name(colour) for noun, colour in zip(NOUNS, shown, strict=True)}
    return Look(colours, outfit.pattern, outfit.cut)


def random_look(rng: np.random.Generator) -> Look:
    """Any look that can be described."""
    colours = {noun: str(rng.choice(list(COLOURS))) for noun in NOUNS}
    return Look(colours, str(rng.choice(TOPS)), str(rng.choice(BOTTOMS)))


def describe_look(look: Look) -> str:
    """One line: clothes, hair and room by their colours."""
    top = f"{look.pattern} " if look.pattern != "plain" else ""
    colours = look.colours
    return (
        f"a dancer with {colours['hair']} hair in a {colours['top']} {top}top and "
        f"{colours['bottom']} {look.cut}, {colours['shoes']} shoes, a {colours['wall']} wall"
    )


def describe(character: Character) -> str:
    """The prompt that goes with a character's picture."""
    return describe_look(look_of(character))
