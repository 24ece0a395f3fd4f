"""`posedance.json`: what a model folder must tell and no config of its networks records."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import WeightsError
from ...generate import Defaults
from ..conditioning import MicroConditioning

FORMAT = 1
RECORD = "posedance.json"
NORMED = ("unet", "vae")
"""Networks whose group counts are recorded: the others' configs tell them, or they have no such norms."""


@dataclass(frozen=True, slots=True)
class Record:
    """`norm_groups`: how many groups the norms of UNet and VAE have, by name; the rest as in SvdGenerator."""

    norm_groups: dict[str, int]
    defaults: Defaults
    numbers: MicroConditioning
    control_strength: float

    def content(self) -> dict[str, Any]:
        """As plain data."""
        return {"format": FORMAT, **asdict(self)}


def record_of(content: Mapping[str, Any], source: str) -> Record:
    """The record that was read from `source`. Raises WeightsError for another format or a damaged one."""
    if content.get("format") != FORMAT:
        raise WeightsError(
            f"{source} has format {content.get('format')} and this version reads {FORMAT}: write it again"
        )
    try:
        return Record(
            {name: int(content["norm_groups"][name]) for name in NORMED},
            Defaults(**content["defaults"]),
            MicroConditioning(**content["numbers"]),
            float(content["control_strength"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{source} is damaged ({error!r}): copy the model folder again") from error


def read_record(folder: Path) -> Record:
    """The record of a model folder."""
    return record_of(read_json(folder / RECORD), str(folder / RECORD))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises WeightsError where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: is {path.parent} a complete model folder?") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}: expected an object")
    return content
