"""The base of every config, and how its options are listed and read: what all files of options share."""

import re
from fractions import Fraction
from typing import Annotated

from cyclopts import Parameter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from ..stages.errors import PoseError
from ..stages.pose.follow.person import HOW_TO_NAME, person_of_text

Rare = Parameter(group="Rarely needed")
"""Marks what `--help` lists in a panel of its own, behind what most people ask for."""

Hidden = Parameter(show=False)
"""Marks what a config file may set but `--help` does not list."""

Seconds = Annotated[
    Fraction, BeforeValidator(lambda value: str(value) if isinstance(value, float) else value)
]
"""Exact time: 0.1 in a YAML file is one tenth, not the nearest binary number. Also 3/2."""


FrameRate = Seconds
"""Exact frames a second: 29.97 is 2997/100; 30000/1001 is that rate."""


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


PERSON = r"^(largest|center|left|right|[1-9]\d{0,2}|\d+(\.\d+)?(,\d+(\.\d+)?){1,3})$"
"""A word, a number from 1 on, a point X,Y or a box x0,y0,x1,y1."""


def number_as_text(value: object) -> object:
    """What YAML and JSON read as a number, as the command line gives it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ALL = "all"
"""Everybody, of whom `pose` writes a file each."""


def _is_person(text: str) -> str:
    """A text that names one person. Raises ValueError."""
    if text == ALL:
        raise ValueError("all is for the command pose, which writes a file for each: name one person")
    try:
        if not re.fullmatch(PERSON, text):
            raise PoseError(f"{text} names nobody: {HOW_TO_NAME}")
        person_of_text(text)
    except PoseError as error:
        raise ValueError(str(error)) from None
    return text


def _is_person_or_all(text: str) -> str:
    """A text that names one person, or ALL. Raises ValueError."""
    return text if text == ALL else _is_person(text)


PersonText = Annotated[str, BeforeValidator(number_as_text), AfterValidator(_is_person)]
"""How an option names one of several people."""
PersonOrAll = Annotated[str, BeforeValidator(number_as_text), AfterValidator(_is_person_or_all)]
"""The same, or all of them."""
