"""What a batch makes: the rows of a manifest, or every driving video with every reference image.

A row names what differs from the command line: `driving` (or `pose`), `reference`, any other option of
`animate`, and `name`, the folder of its result. Paths are relative to the manifest.
"""

import csv
import difflib
import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ...stages.errors import ConfigError, VideoError
from ...stages.media.moving_pictures import is_animated
from ...stages.media.numbered import PICTURE_ENDS, numbered_pictures
from ..animate.dance import with_pose_size
from ..animate.refuse import refuse_contradictions, refuse_idle
from ..config import (
    AnimateConfig,
    all_keys,
    explain,
    merge,
    shortened,
    unknown_keys,
)
from ..job.inputs import PATHS, is_there, with_whole_paths
from ..job.once import in_parallel
from ..job.output import VIDEOS
from ..job.storage import (
    beside,
    files_of_folder,
    foresee,
    is_file,
    is_folder,
    localize,
    name_of,
    url_of,
)
from ..plain_yaml import load_yaml

logger = logging.getLogger(__name__)

NAME_BYTES = 200
"""In the name of a result's folder: file systems take 255, and some files are called after it."""
OWN = re.compile(r"(?:index|events|summary)[\w-]*\.(?:html|jsonl|json)")
"""Files of a batch in its folder, beside those of its results."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One video of a batch; `config.output` is its folder. All paths are absolute."""

    name: str
    config: AnimateConfig


def read_manifest(path: Path) -> list[Row]:
    """Rows of a CSV, JSONL or YAML manifest. Raises ConfigError."""
    readers = {".csv": read_csv, ".jsonl": read_jsonl, ".yaml": read_list, ".yml": read_list}
    reader = readers.get(Path(name_of(path)).suffix.lower())
    if reader is None:
        raise ConfigError(f"cannot tell what manifest {path} is: name it .csv, .jsonl or .yaml")
    try:
        rows = reader(localize(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read manifest {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"manifest {path} is not text: save it as UTF-8") from error
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"manifest {path} cannot be parsed: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"manifest {path} must be a list of mappings, one for each video")
    if not rows:
        raise ConfigError(f"manifest {path} is empty: give one row for each video")
    return rows


def read_csv(text: str) -> list[Row]:
    """Rows of a table with a heading; empty cells count as not given, `window.size` is a nested option."""
    rows = []
    table = csv.DictReader(io.StringIO(text))
    refuse_twice(key.strip() for key in table.fieldnames or ())
    for number, cells in enumerate(table, 1):
        if None in cells or None in cells.values():
            raise ValueError(f"row {number} has not as many cells as the heading")
        row: dict[str, Any] = {}
        for key, value in cells.items():
            *groups, last = key.strip().split(".")
            if value.strip():
                value = {last: value.strip()}
                for group in reversed(groups):
                    value = {group: value}
                row = merge(row, value)
        rows.append(row)
    return rows


def read_jsonl(text: str) -> list[Any]:
    """One JSON object on each line."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        refuse_twice(key for key, _ in pairs)
        return dict(pairs)

    return [json.loads(line, object_pairs_hook=once) for line in text.splitlines() if line.strip()]


def refuse_twice(keys: Iterable[str]) -> None:
    """ValueError where a column or key is there twice: one of them would be lost unseen."""
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(f"{shortened(twice[0])} is there twice: keep one of them")


def read_list(text: str) -> Any:
    """Rows of a YAML file, checked by `read_manifest`."""
    return load_yaml(text)


def crossed(driving: Path | None, reference: Path | None, painted: bool = False) -> tuple[list[Row], int]:
    """Every driving video with every reference, each a file or a folder; how many files were neither.

    Where the reference is painted, every driving video alone.
    """
    if driving is None or (reference is None and not painted):
        raise ConfigError("name a manifest with --manifest, or folders with --driving and --reference")
    videos, others = driving_videos(driving)
    if reference is None:
        return [{"driving": video} for video in videos], others
    pictures, more = files_in(reference, PICTURE_ENDS, "picture", is_picture)
    rows: list[Row] = [
        {"driving": video, "reference": picture} for video, picture in product(videos, pictures)
    ]
    return rows, others + more


def driving_videos(path: Path) -> tuple[list[Path], int]:
    """The videos of a folder, or the one that `path` is: a file, or a folder or pattern of pictures."""
    if url_of(path) is None and not any(map(is_video, _inside(path))):
        with suppress(VideoError):
            if numbered_pictures(path) is not None:
                return [path], 0
    return files_in(path, VIDEOS, "video", is_video)


def _inside(path: Path) -> list[Path]:
    return files_of_folder(path) if path.is_dir() else []


def is_video(file: Path) -> bool:
    """Whether a file of a folder is a video, by its name or because it is an animated picture."""
    return file.suffix.lower() in VIDEOS or is_animated(file)


def is_picture(file: Path) -> bool:
    """Whether a file of a folder is a picture, by its name."""
    return file.suffix.lower() in PICTURE_ENDS


def files_in(
    path: Path, suffixes: frozenset[str], what: str, fits: Callable[[Path], bool]
) -> tuple[list[Path], int]:
    """The files of a folder that fit, or the one file that `path` is; and how many others."""
    if is_file(path):
        return [path], 0
    if not is_folder(path):
        raise ConfigError(f"there is no {what} or folder {path}: check the path")
    files = files_of_folder(path)
    found = [file for file in files if fits(file)]
    others = Counter(file.suffix for file in files if file not in found and file.suffix != ".npz")
    if others:
        named = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others.items())
        logger.warning(f"{path}: {others.total()} files are no {what} and left out ({named})")
    if not found:
        raise ConfigError(f"there is no {what} in {path}: its name must end in {', '.join(sorted(suffixes))}")
    return found, others.total()


def make_items(rows: Sequence[Row], base: AnimateConfig, source: str, folder: Path) -> list[Item]:
    """Items of `rows`, each on top of `base`, whose paths are relative to `folder`, named uniquely.

    No name depends on later rows: of rows that would get the same one the first has it, and each other ends
    in a hash of what it asks for. Raises ConfigError naming `source` and the row for an unknown key, a wrong
    value, a missing file, or a name that is taken. Rows that ask for the same thing twice are left out and
    counted.
    """
    below = with_whole_paths(base.model_dump(exclude_unset=True, exclude={"output"}), Path.cwd())
    seen: dict[str, int] = {}
    output = base.output.resolve()
    items: dict[str, Item] = {}
    wanted: list[tuple[str, AnimateConfig]] = []
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        options = {key: value for key, value in row.items() if key != "name"}
        own = with_whole_paths(options, folder)
        config = configure(where, merge(without_other_character(below, own), own), options)
        identity = json.dumps([config.model_dump(mode="json"), row.get("name")], sort_keys=True)
        if identity in seen:
            continue
        seen[identity] = number
        wanted.append((where, config))
        name = readable_name(row, config)
        if OWN.fullmatch(name):
            raise ConfigError(f"{where}: a batch writes a file {name} itself: name the row otherwise")
        if name in items and row.get("name") is None:
            name = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        if name in items:
            raise ConfigError(f"{where}: the name {name} is taken by an earlier row: give each its own")
        items[name] = Item(name, config.model_copy(update={"output": output / name}))
    check_files(wanted)
    if len(items) < len(rows):
        logger.warning(
            f"{source}: {len(rows) - len(items)} rows ask for what an earlier row does and are left out"
        )
    return list(items.values())


def without_other_character(below: Row, own: Row) -> Row:
    """The options below a row that names its own character without theirs: one of them is painted."""
    pair = ("reference", "character_prompt")
    names_one = any(own.get(name) is not None for name in pair)
    return {key: value for key, value in below.items() if not (names_one and key in pair)}


def configure(where: str, merged: Row, options: Row) -> AnimateConfig:
    """The config of one row, checked as far as that goes without reading its inputs."""
    for key in unknown_keys(AnimateConfig, options):
        near = difflib.get_close_matches(key, ["name", *all_keys(AnimateConfig)], n=1)
        hint = f"did you mean {near[0]}?" if near else "it is no option of animate"
        raise ConfigError(f"{where}: unknown key {shortened(key)}: {hint}")
    if "output" in options:
        raise ConfigError(f"{where}: output is decided by the batch: use name for the folder of a result")
    try:
        config = AnimateConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error)}") from error
    if bool(config.driving) == bool(config.pose):
        raise ConfigError(f"{where}: name either driving or pose")
    try:
        refuse_contradictions(config)
        refuse_idle(config, options)
        config = with_pose_size(config)
    except (ConfigError, VideoError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if config.reference is None and config.character_prompt is None:
        raise ConfigError(
            f"{where}: reference is missing: name a picture of the character, or character_prompt"
        )
    return config


def check_files(wanted: Sequence[tuple[str, AnimateConfig]]) -> None:
    """ConfigError for the first of the rows, each (where it stands, config), one of whose files is missing.

    Each file is looked for once, those in stores many at a time.
    """
    asked = {path: folder_kind(config, path) for _, config in wanted for path in files_named(config)}
    far = [path for path in asked if url_of(path) is not None]
    foresee([*far, *keypoints_of({config.reference for _, config in wanted})])
    there = dict(zip(far, in_parallel(lambda path: is_there_or_folder(path, asked[path]), far), strict=True))
    there |= {path: is_there_or_folder(path, asked[path]) for path in asked if path not in there}
    for where, config in wanted:
        for path in files_named(config):
            if not there[path]:
                raise ConfigError(f"{where}: there is no file {path}: check the path")


def keypoints_of(pictures: Iterable[Path | None]) -> list[Path]:
    """Where in stores the keypoints of these pictures may lie."""
    far = [path for path in pictures if path is not None and url_of(path) is not None]
    return [path for path in (beside(picture, ".npz") for picture in far) if path is not None]


def files_named(config: AnimateConfig) -> list[Path]:
    """The files that a row names."""
    painted = (config.character.picture, *config.character.lora, *config.upscaler.lora)
    paths = (config.driving, config.pose, config.reference, config.lora, *painted)
    return [path for path in paths if path is not None]


def folder_kind(config: AnimateConfig, path: Path) -> str | None:
    """What a folder may hold that is named in place of this file: poses or pictures; None for other files."""
    return "poses" if path is config.pose else "pictures" if path is config.driving else None


def is_there_or_folder(path: Path, kind: str | None) -> bool:
    """Whether there is such a file, here or in a store, a folder of this kind, or pictures of a pattern."""
    if is_there(path) or (kind == "poses" and is_folder(path)):
        return True
    if kind != "pictures" or url_of(path) is not None:
        return False
    try:
        return numbered_pictures(path) is not None
    except VideoError:
        return False


def readable_name(row: Row, config: AnimateConfig) -> str:
    """The row's own name, or driving--reference with what else the row sets; also without a reference."""
    if row.get("name") is not None:
        return tidy(str(row["name"]))
    dance, reference = config.driving or config.pose, config.reference
    assert dance is not None
    files = [path for path in (dance, reference) if path is not None]
    others = (f"{key}-{value}" for key, value in settings_in(row) if key not in ("name", *PATHS))
    return tidy("--".join([*(Path(name_of(path)).stem for path in files), *others]))


def settings_in(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted options of a row, and their values."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from settings_in(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def tidy(name: str) -> str:
    """A name that every file system takes: long ones are cut and end in a hash of the whole."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._") or "item"
    if len(plain.encode()) <= NAME_BYTES:
        return plain
    cut = plain.encode()[: NAME_BYTES - 9].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
