"""The base of every config, and how its options are listed and read: what all files of options share."""

from fractions import Fraction
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict

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
