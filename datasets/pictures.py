"""Training samples for pictures: a picture, its condition, its prompt; drawn, of a folder, or of tables.

Sample i of a set follows from (seed, i) alone.
"""

import io
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ..stages.errors import ConfigError, PosedanceError
from ..stages.image.conditions import Kind, canny, colour_depth, low_resolution, mask
from ..stages.media.picture import place, read_picture
from ..stages.media.placement import centre_crop
from ..stages.pose.render import draw_control_frames
from .clips import HELD_OUT, SUPERSAMPLING, BadRecord, poses_of
from .puppets.render import NOBODY, PuppetFrame, make_character, make_motion, render
from .puppets.words import describe

FPS = Fraction(15)
MOMENTS = 600
"""Frames of a motion that pictures are drawn of."""
SHRINKINGS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
"""Kernels by which a picture was made small, where none is asked for: nobody knows which."""
FACTORS = (2.0, 4.0)
"""How much larger than its low-resolution self a picture is."""
JPEG_QUALITY = (55, 95)
NOISE = 3.0
"""Largest deviation of the noise on low-resolution pictures, of 255. Both are assumed, not measured."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
COLUMNS = {
    "picture": ("image", "picture"),
    "condition": ("conditioning_image", "condition"),
    "prompt": ("text", "prompt"),
}
"""What the columns of a Hugging Face data set are called: fill50k's and VIDIT's names first."""


@dataclass(frozen=True, slots=True)
class PictureSample:
    """`picture` and `condition` uint8 RGB [H, W, 3], the same size; `number` is its place in the set."""

    number: int
    picture: np.ndarray
    condition: np.ndarray
    prompt: str


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """The size of pictures, the kind of their conditions, and the short side at which poses are drawn.

    `factor` is how much larger a picture is than its low-resolution self, without one it is any of FACTORS;
    with `faults` that one was made by any kernel and has a file's faults, else it is a plain average.
    """

    width: int
    height: int
    kind: Kind
    canvas: int
    factor: float | None = None
    faults: bool = True


class Pictures(Protocol):
    """Samples by number; one that cannot be used comes as a BadRecord."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PictureSample | BadRecord: ...


class PuppetPictures(Dataset[PictureSample]):
    """`count` drawn dancers, each in a moment of a motion, and the truth about them as their condition.

    With `keep` each is drawn once and stays in memory.
    """

    def __init__(self, spec: PictureSpec, count: int, seed: int, first: int = 0, keep: bool = False) -> None:
        self.spec, self.count, self.seed, self.first = spec, count, seed, first
        self._kept: dict[int, PictureSample] | None = {} if keep else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> PictureSample:
        if self._kept is None:
            return self._drawn(index)
        if index not in self._kept:
            self._kept[index] = self._drawn(index)
        return self._kept[index]

    def _drawn(self, index: int) -> PictureSample:
        spec = self.spec
        rng = np.random.default_rng([self.seed, self.first, index, 5])
        who, what = (self.first + int(n) for n in rng.integers(0, HELD_OUT, 2))
        character, motion = make_character(who), make_motion(what, FPS)
        size = spec.width * SUPERSAMPLING, spec.height * SUPERSAMPLING
        drawn = render(character, motion, int(rng.integers(MOMENTS)), *size)
        picture = cv2.resize(drawn.image, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
        condition = drawn_condition(drawn, picture, spec, rng)
        return PictureSample(index, picture, condition, describe(character))


def drawn_condition(
    drawn: PuppetFrame, picture: np.ndarray, spec: PictureSpec, rng: np.random.Generator
) -> np.ndarray:
    """The condition of a drawn dancer, uint8 [H, W, 3], from its geometry where that tells it."""
    size = spec.width, spec.height
    if spec.kind == "pose":
        poses = poses_of([drawn], (drawn.image.shape[1], drawn.image.shape[0]), FPS)
        return next(iter(draw_control_frames(poses, *size, spec.canvas)))
    if spec.kind == "mask":
        return np.repeat(
            cv2.resize(np.where(drawn.parts > 0, 255, 0).astype(np.uint8), size)[..., None], 3, 2
        )
    if spec.kind == "depth":
        figure = drawn.depth > NOBODY
        near = drawn.depth[figure] if figure.any() else np.zeros(1, np.float32)
        wall = near.min() - max(float(np.ptp(near)), 1.0)
        return cv2.resize(
            colour_depth(np.where(figure, drawn.depth, wall)), size, interpolation=cv2.INTER_AREA
        )
    return made_condition(picture, spec, rng)


def made_condition(picture: np.ndarray, spec: PictureSpec, rng: np.random.Generator) -> np.ndarray:
    """The condition that is found in a picture itself. ConfigError for pose and depth, which cannot be."""
    if spec.kind == "canny":
        return canny(picture)
    if spec.kind == "mask":
        return mask(picture)
    if spec.kind == "low-resolution":
        small = degrade(picture, rng, spec.factor, spec.faults)
        return low_resolution(small, picture.shape[1], picture.shape[0])
    raise ConfigError(
        f"a {spec.kind} is not made of a picture while training: put the condition pictures beside"
    )


def degrade(
    picture: np.ndarray, rng: np.random.Generator, factor: float | None = None, faults: bool = True
) -> np.ndarray:
    """A picture as small as one that is to be enlarged, with the faults that such a one has.

    For `factor` and `faults` see `PictureSpec`.
    """
    height, width = picture.shape[:2]
    factor = factor or float(rng.uniform(*FACTORS))
    size = max(1, round(width / factor)), max(1, round(height / factor))
    if not faults:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(picture, size, interpolation=int(rng.choice(SHRINKINGS)))
    if rng.uniform() < 0.5:
        memory = io.BytesIO()
        Image.fromarray(small).save(memory, "JPEG", quality=int(rng.integers(*JPEG_QUALITY)))
        small = np.asarray(Image.open(memory))
    noise = rng.normal(0, rng.uniform(0, NOISE), small.shape)
    return np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)


class FolderPictures(Dataset[PictureSample | BadRecord]):
    """Pictures of a folder: NAME.png with NAME.condition.png and NAME.txt, its prompt, beside it.

    A condition that is missing is made of the picture, where its kind can be. Pictures are brought to size by
    covering it and cutting to their middle, as published.
    """

    def __init__(self, folder: Path, spec: PictureSpec, seed: int) -> None:
        self.spec, self.seed = spec, seed
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        self.paths = [path for path in found if not path.stem.endswith(".condition")]
        if not self.paths:
            raise ConfigError(f"{folder} holds no pictures ({', '.join(PICTURES)}): check the path")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> PictureSample | BadRecord:
        path, spec = self.paths[index], self.spec
        beside = [path.with_name(f"{path.stem}.condition{ending}") for ending in PICTURES]
        condition = next((other for other in beside if other.is_file()), None)
        words = path.with_suffix(".txt")
        try:
            prompt = words.read_text(encoding="utf-8").strip() if words.is_file() else ""
            given = None if condition is None else read_picture(condition)
            return sample_of(index, read_picture(path), given, prompt, spec, self.seed)
        except (PosedanceError, OSError, UnicodeDecodeError) as error:
            return BadRecord(path.name, " ".join(str(error).split()))

    def files(self) -> list[Path]:
        """What decides the samples."""
        return self.paths


class TablePictures(Dataset[PictureSample | BadRecord]):
    """Pictures of a Hugging Face `datasets` folder: its parquet or arrow files, read without that package."""

    def __init__(self, folder: Path, spec: PictureSpec, seed: int) -> None:
        self.spec, self.seed = spec, seed
        self.tables = sorted([*folder.rglob("*.parquet"), *folder.rglob("*.arrow")])
        if not self.tables:
            raise ConfigError(f"{folder} holds no *.parquet or *.arrow: give the folder of a data set")
        self.ends = list(accumulate(len(read_table(path, ())) for path in self.tables))
        self.columns = find_columns(self.tables[0])
        self._open: tuple[Path, Any] | None = None

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> PictureSample | BadRecord:
        at = bisect_right(self.ends, index)
        row = index - (self.ends[at - 1] if at else 0)
        path = self.tables[at]
        if self._open is None or self._open[0] != path:
            self._open = path, read_table(path, tuple(self.columns.values()))
        record = self._open[1].slice(row, 1).to_pylist()[0]
        try:
            picture = decoded(record[self.columns["picture"]], path.parent)
            name = self.columns.get("condition")
            condition = None if name is None or record[name] is None else decoded(record[name], path.parent)
            prompt = str(record.get(self.columns.get("prompt", ""), "") or "")
            return sample_of(index, picture, condition, prompt, self.spec, self.seed)
        except (PosedanceError, OSError, ValueError) as error:
            return BadRecord(f"{path.name}, row {row}", " ".join(str(error).split()))

    def files(self) -> list[Path]:
        """What decides the samples."""
        return self.tables

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}


def read_table(path: Path, columns: tuple[str, ...]) -> Any:
    """A table of a parquet or arrow file; of parquet these columns alone."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path, columns=list(columns), memory_map=True)
        with pyarrow.memory_map(str(path)) as source:
            return ipc.open_stream(source).read_all()
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} is no readable table: {' '.join(str(error).split())}") from error


def find_columns(path: Path) -> dict[str, str]:
    """Which column holds what. ConfigError where none holds pictures."""
    import pyarrow
    from pyarrow import ipc, parquet

    if path.suffix == ".parquet":
        names = parquet.read_schema(path).names
    else:
        with pyarrow.memory_map(str(path)) as source:
            names = ipc.open_stream(source).schema.names
    found = {}
    for what, candidates in COLUMNS.items():
        for name in candidates:
            if name in names and what not in found:
                found[what] = name
    if "picture" not in found:
        raise ConfigError(
            f"{path} has the columns {', '.join(names)}, and none of {', '.join(COLUMNS['picture'])}"
        )
    return found


def decoded(cell: Any, folder: Path) -> np.ndarray:
    """A picture of a data set, uint8 [H, W, 3]: its bytes, or the file that it names."""
    if cell.get("bytes") is not None:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            return np.asarray(image.convert("RGB"))
    return read_picture(folder / cell["path"])


def sample_of(
    number: int, picture: np.ndarray, condition: np.ndarray | None, prompt: str, spec: PictureSpec, seed: int
) -> PictureSample:
    """A sample at the asked size; its condition made of the picture where it has none."""
    size = spec.width, spec.height
    placed = place(picture, centre_crop((picture.shape[1], picture.shape[0]), size))
    if condition is None:
        made = made_condition(placed, spec, np.random.default_rng([seed, number, 6]))
    else:
        made = place(condition, centre_crop((condition.shape[1], condition.shape[0]), size))
    return PictureSample(number, placed, made, prompt)
