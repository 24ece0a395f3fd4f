"""What visitors bring: checked as the command line checks files, kept by what it holds.

.web/uploads/ID.mp4, ID.png, ...   the file; ID is the beginning of its SHA-256
.web/uploads/ID.json               what it is: its kind, its size, and the name that it came with
"""

import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...datasets.puppets.render import write_demo
from ...stages.atomic import temporary_name
from ...stages.errors import ConfigError, PictureError, PosedanceError, VideoError
from ...stages.media.picture import picture_size, read_picture
from ...stages.media.video import Clip, probe
from ..job.job import write_text
from .config import Folders

Kind = Literal["video", "picture"]
LARGEST_PICTURE = 50_000_000
"""Pixels of a picture that is decoded for a visitor."""
LARGEST_FRAME = 4096 * 2304
"""Pixels of a frame of a video."""
LARGEST_VIDEO = 10**11
"""Pixels of all frames of a video: about 25 minutes of 1080p."""
IDENTITY = re.compile(r"[0-9a-f]{16}")
ENDINGS = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"\x1aE\xdf\xa3": ".webm",
    b"RIFF": ".riff",
}
"""Endings of names by the first bytes; all else is .mp4 or .png by its kind. They are read by content."""
SHOWN = 80
"""Characters of the name that a file came with that are shown."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that somebody brought. Of a picture fps and seconds are 0."""

    identity: str
    kind: Kind
    title: str
    file: str
    width: int
    height: int
    fps: float = 0.0
    seconds: float = 0.0
    sound: bool = False


def plain_title(name: str) -> str:
    """The name that a file came with, to be shown and for nothing else."""
    text = "".join(sign for sign in Path(name.replace("\\", "/")).name if sign.isprintable())
    return text[:SHOWN] or "unnamed"


async def receive(folders: Folders, name: str, parts: AsyncIterator[bytes], largest: int) -> Path:
    """Write what comes to a file of a random name. Raises ConfigError for more than `largest` bytes."""
    target = temporary_name(folders.uploads / "upload")
    size = 0
    try:
        with target.open("xb") as file:
            async for part in parts:
                size += len(part)
                if size > largest:
                    raise ConfigError(
                        f"{plain_title(name)} has more than {largest / 2**20:g} MiB: cut or compress it"
                    )
                file.write(part)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def keep(folders: Folders, kind: Kind, name: str, file: Path) -> Upload:
    """Check a file that was received and keep it. Raises PosedanceError where it is no such file."""
    try:
        with file.open("rb") as data:
            digest, begin = hashlib.file_digest(data, "sha256").hexdigest(), b""
            data.seek(0)
            begin = data.read(8)
        ending = next((end for sign, end in ENDINGS.items() if begin.startswith(sign)), None) or (
            ".mp4" if kind == "video" else ".png"
        )
        identity, title = digest[:16], plain_title(name)
        try:
            about = video_facts(file) if kind == "video" else picture_facts(file)
        except PosedanceError as error:
            raise type(error)(
                str(error).replace(str(file), title).replace(str(file.resolve()), title)
            ) from None
        upload = Upload(identity, kind, title, f"{identity}{ending}", **about)
        file.replace(folders.uploads / upload.file)
        write_text(folders.uploads / f"{identity}.json", json.dumps(asdict(upload)))
        return upload
    finally:
        file.unlink(missing_ok=True)


def video_facts(path: Path) -> dict[str, Any]:
    """What `Upload` says of a video. Raises VideoError for one that is too large to be decoded here."""
    info = probe(path, Clip(max_pixels=LARGEST_FRAME))
    if info.width * info.height * info.num_frames > LARGEST_VIDEO:
        raise VideoError(
            f"{path} has {info.num_frames} frames of {info.width}x{info.height}: more than "
            f"{LARGEST_VIDEO / 1e9:g} billion pixels in all are not taken here: cut it or scale it down"
        )
    return {
        "width": info.width,
        "height": info.height,
        "fps": float(info.fps),
        "seconds": float(info.duration),
        "sound": info.has_audio,
    }


def picture_facts(path: Path) -> dict[str, Any]:
    """What `Upload` says of a picture. Raises PictureError for one that is too large or cannot be read."""
    width, height = picture_size(path)
    if width * height > LARGEST_PICTURE:
        raise PictureError(
            f"picture {path} is {width}x{height}: more than {LARGEST_PICTURE / 1e6:g} million pixels are not "
            "taken here: scale it down"
        )
    height, width = read_picture(path).shape[:2]
    return {"width": width, "height": height}


def find(folders: Folders, identity: str, kind: Kind) -> tuple[Upload, Path]:
    """The upload of that identity, and its file. Raises ConfigError."""
    record = folders.uploads / f"{identity}.json"
    if IDENTITY.fullmatch(identity) is None or not record.is_file():
        raise ConfigError("there is no such upload: drop the file in again")
    upload = Upload(**json.loads(record.read_text()))
    if upload.kind != kind:
        raise ConfigError(f"{upload.title} is a {upload.kind}: a {kind} is wanted here")
    return upload, folders.uploads / upload.file


def gallery(folders: Folders) -> list[Upload]:
    """All uploads, the newest first."""
    records = sorted(folders.uploads.glob("*.json"), key=lambda path: -path.stat().st_mtime)
    return [Upload(**json.loads(record.read_text())) for record in records]


def by_titles(folders: Folders, line: str) -> str:
    """A line in which files of uploads are called by the names that they came with."""
    where = f"{folders.uploads}/"
    if where not in line:
        return line
    for upload in gallery(folders):
        line = line.replace(where + upload.file, upload.title)
    return line


def example(folders: Folders) -> list[Upload]:
    """The built-in dancers as uploads: the video and the picture. They are drawn once."""
    drawn = folders.own / "example"
    if not (drawn / "reference.png").is_file():
        drawn.mkdir(exist_ok=True)
        write_demo(drawn)
    found: list[Upload] = []
    wanted: tuple[tuple[Kind, str, str], ...] = (
        ("video", "driving.mp4", "built-in dancer.mp4"),
        ("picture", "reference.png", "built-in character.png"),
    )
    for kind, name, title in wanted:
        copy = temporary_name(folders.uploads / "upload")
        shutil.copyfile(drawn / name, copy)
        found.append(keep(folders, kind, title, copy))
    return found
