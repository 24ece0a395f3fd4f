"""A page with a server of its own, and a browser that looks at it: one of each for a file of tests."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import add_picture

from posedance.stages.media.encode import VideoWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
START_S = 300


class Page:
    """A server of `run.py web` as a process; `kill` ends it as a crash does, `start` begins another."""

    def __init__(self, jobs: Path, *words: str) -> None:
        self.jobs, self._words = jobs, words
        self.start()

    def start(self) -> None:
        log = self.jobs.parent / "server.log"
        words = ["web", "-o", str(self.jobs), "--port", "0", *self._words]
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "posedance.pipeline", *words], stdout=said, stderr=said
            )
        for _ in range(START_S * 20):
            found = re.search(r"the page is at (http://\S+/)", log.read_text())
            if found is not None:
                self.address = found.group(1)
                return
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def queue(self) -> dict[str, Any]:
        return json.loads((self.jobs / ".web" / "queue.json").read_text())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drawn dance and a character: dance.mp4 and character.png."""
    from helpers import FPS, SIZE

    from posedance.datasets.puppets.render import make_character, make_motion, render

    folder = tmp_path_factory.mktemp("inputs")
    add_picture(folder, "character", 3)
    with VideoWriter(folder / "dance.mp4", 2 * SIZE[0], 2 * SIZE[1], FPS) as writer:
        for frame in range(10):
            drawn = render(make_character(5), make_motion(1, FPS), frame, 2 * SIZE[0], 2 * SIZE[1])
            writer.write(drawn.image)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page on an empty jobs folder."""
    pytest.importorskip("gradio", reason="the page needs posedance[web]")
    served = Page(tmp_path_factory.mktemp("page") / "jobs")
    yield served
    served.process.terminate()
    served.process.wait(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        window = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield window
        window.close()


@pytest.fixture
def tab(browser: Any, page: Page) -> Iterator[Any]:
    """A new window on the page; what it asks of other hosts, and errors of its scripts, fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    opened = context.new_page()
    strange: list[str] = []
    own = (page.address.rpartition(":")[0], "data:", "blob:")
    opened.on("request", lambda asked: None if asked.url.startswith(own) else strange.append(asked.url))
    opened.on("pageerror", lambda error: strange.append(str(error)))
    opened.goto(page.address)
    opened.wait_for_function("window.posedance?.uploads")  # its scripts have taken hold
    yield opened
    context.close()
    assert not strange, strange
