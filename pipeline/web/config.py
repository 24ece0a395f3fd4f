"""What `web` is told, and the folders that it works in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from ..config_base import Config, Rare


class WebConfig(Config):
    """Where the page listens, and whose jobs it shows."""

    output: Annotated[Path, Parameter(alias="-o")] = Path("out/jobs")
    """Folder of the jobs: each is a folder in it, made here or by `animate -o FOLDER/NAME`."""
    host: str = "127.0.0.1"
    """Address to listen on. Another than this machine's own asks for --password, or gives out a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    """Port to listen on; 0 takes any that is free."""
    password: str | None = None
    """What visitors type before they see anything [default: a token, printed once, where --host is given]."""
    defaults: Path | None = None
    """YAML file with options of animate that hold for every job: weights, a model folder, a device."""
    upload_megabytes: Annotated[int, Field(ge=1), Rare] = 512
    """The largest file that is taken."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The jobs' folder, and what the page keeps in it, hidden."""

    jobs: Path

    @property
    def own(self) -> Path:
        return self.jobs / ".web"

    @property
    def uploads(self) -> Path:
        """What visitors brought, by what it holds: never by their names."""
        return self.own / "uploads"

    @property
    def asked(self) -> Path:
        """What is asked for of each job: NAME.yaml, a config, and NAME.json, how it is shown."""
        return self.own / "asked"

    @property
    def logs(self) -> Path:
        """What each job's command said."""
        return self.own / "logs"

    @property
    def previews(self) -> Path:
        """Frame strips, fitted poses and animatics."""
        return self.own / "previews"

    @property
    def thumbs(self) -> Path:
        """Small pictures of jobs and uploads."""
        return self.own / "thumbs"

    def make(self) -> None:
        """Make those that are not there."""
        for folder in (self.uploads, self.asked, self.logs, self.previews, self.thumbs):
            folder.mkdir(parents=True, exist_ok=True)
