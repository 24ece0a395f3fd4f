"""What a drawn character looks like, in words: the prompt that goes with its picture."""

import cv2
import numpy as np

from .character import RGB, Character

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


def describe(character: Character) -> str:
    """One line: clothes, hair and room by their colours."""
    outfit, room = character.outfit, character.room
    top = f"{outfit.pattern} " if outfit.pattern != "plain" else ""
    return (
        f"a dancer with {colour_name(outfit.hair)} hair in a {colour_name(outfit.top)} {top}top and "
        f"{colour_name(outfit.bottom)} {outfit.cut}, {colour_name(outfit.shoes)} shoes, "
        f"a {colour_name(room.wall)} wall"
    )
