"""Publishing the videos of a batch whose output is a URL, while the others are made."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ...stages.errors import OutputError
from ..job.job import Job, Key
from ..job.publish import publish

logger = logging.getLogger(__name__)

COPIED_AT_ONCE = 8
"""Videos that are copied to a store together: a copy mostly waits for the network. Assumed, not measured."""


class Publisher:
    """Copies finished videos of the batch in `root` to `url` in the background. None is copied without a URL.

    `keys` are those of each video's steps. One that cannot be copied is said, and tried again by `finish`.
    """

    def __init__(self, root: Path, url: str | None, keys: Mapping[str, Mapping[str, Key]]) -> None:
        self._root, self._url, self._keys = root, url, keys
        self._threads = ThreadPoolExecutor(COPIED_AT_ONCE, "publish")
        self._copies: dict[str, Future[bool]] = {}

    def add(self, name: str) -> None:
        """Copy a video soon."""
        if self._url is not None:
            self._copies[name] = self._threads.submit(self._try, name)

    def finish(self) -> None:
        """Wait until all are copied. Raises OutputError where one cannot be copied now either."""
        failure: OutputError | None = None
        for name in [name for name, copy in self._copies.items() if not copy.result()]:
            try:
                self._copy(name)
            except OutputError as error:
                failure = error
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End copies that run, and begin no other."""
        self._threads.shutdown(cancel_futures=True)

    def _try(self, name: str) -> bool:
        try:
            self._copy(name)
        except OutputError as error:  # the other videos are made all the same
            logger.warning(f"{error}: tried again at the end")
            return False
        return True

    def _copy(self, name: str) -> None:
        publish(Job(self._root / name), f"{self._url}/{name}", self._keys[name])
