"""Lines and bars: what the command line shows, what workers keep to themselves, what a library user sees."""

import logging
import subprocess
import sys

import pytest

from posedance.pipeline.progress import LOGGER, observed, show_log, stage

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
import logging
from posedance.pipeline.progress import observed
log = logging.getLogger("posedance.stages.some.module")
log.info("hidden")
with observed(lambda *_: None):
    log.warning("hidden")
log.warning("shown")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("", "shown\n")
