"""Lines and bars: what the command line shows, what workers keep to themselves, what a library user sees."""

import json
import logging
import os
import subprocess
import sys

import pytest

from posedance.pipeline.progress import LOGGER, kept_in, observed, show_log, stage

log = logging.getLogger("posedance.stages.some.module")


@pytest.fixture
def logger():
    before = LOGGER.level, list(LOGGER.handlers)
    yield LOGGER
    LOGGER.level, LOGGER.handlers = before


def test_the_command_line_shows_each_line_once_and_workers_show_none(logger, capsys):
    show_log()
    show_log()
    log.info("one")
    with observed(lambda *_: None):
        log.info("hidden")
        log.warning("hidden")
    log.warning("two")
    assert capsys.readouterr().err.split() == ["one", "two"]


def test_stages_report_to_the_observer():
    told = []
    with observed(lambda *what: told.append(what)), stage("draw", 3) as advance:
        advance(1)
        advance(2)
    assert told == [("draw", 0, 3), ("draw", 1, 3), ("draw", 3, 3)]


def test_a_library_user_sees_warnings_alone_and_a_worker_not_even_those():
    script = """
import json
import logging
import os
from posedance.pipeline.progress import observed
log = logging.getLogger("posedance.stages.some.module")
log.info("hidden")
with observed(lambda *_: None):
    log.warning("hidden")
log.warning("shown")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("", "shown\n")


def test_stages_are_told_in_a_file_too(tmp_path):
    path = tmp_path / "progress.json"
    with kept_in(path):
        with stage("pose", 2, "frame") as advance:
            advance(2)
        with stage("denoise", 5, "window") as advance:
            advance(3)
            told = json.loads(path.read_text())
            assert [row["stage"] for row in told["stages"]] == ["pose", "denoise"]
    told = json.loads(path.read_text())
    rows = [(row["stage"], row["unit"], row["done"], row["total"]) for row in told["stages"]]
    assert rows == [("pose", "frame", 2, 2), ("denoise", "window", 3, 5)]
    assert told["pid"] == os.getpid()


def test_a_file_of_progress_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    with kept_in(tmp_path / "nowhere" / "progress.json"), stage("pose", 2) as advance:
        advance(2)
    (line,) = caplog.messages
    assert "goes on without progress.json" in line
