"""What all requests to the page work on: its folders, its queue, and what makes previews."""

from collections.abc import Mapping
from typing import Any

from . import asking, jobs, previews
from .config import Folders, WebConfig
from .queue import Queue


class Site:
    """What all requests work on."""

    def __init__(self, config: WebConfig) -> None:
        self.config = config
        self.folders = Folders(config.output.resolve())
        self.defaults: Mapping[str, Any] = asking.read_defaults(config)
        self.folders.make()
        self.queue = Queue(self.folders)
        self.previewer = previews.Previewer(self.folders.previews)

    def cards(self) -> list[jobs.Card]:
        """The cards of all jobs."""
        shown = self.queue.shown()
        working = [] if shown["working"] is None else [shown["working"]]
        return jobs.cards(self.folders, shown["jobs"], working)

    def card(self, name: str) -> jobs.Card:
        """The card of one job, or of one video in a batch."""
        shown = self.queue.shown()
        working = [] if shown["working"] is None else [shown["working"]]
        if name in (*shown["jobs"], *working) and not (self.folders.jobs / name / ".work").is_dir():
            return jobs.unborn(self.folders, name, "running" if name in working else "waiting")
        jobs.folder_of(self.folders, name)
        return jobs.card_of(self.folders, name, shown["jobs"], working)
