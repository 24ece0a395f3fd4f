"""The page in a real browser: a dance and a picture go in, are seen fitted, run, stopped, and looked at."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.timeout(600)
SMALL = {"model": "tiny-random", "steps": 2, "width": 64, "height": 64, "stride": 1}


def give(tab: Any, inputs: Path) -> None:
    """Drop the dance and the character in."""
    tab.set_input_files("#driving-file", inputs / "dance.mp4")
    tab.wait_for_selector("#driving .pd-gallery button[aria-selected=true]")
    tab.set_input_files("#character-file", inputs / "character.png")
    tab.wait_for_selector("#character .pd-gallery button[aria-selected=true]")


def fill(tab: Any, **options: Any) -> None:
    """Set fields of the page."""
    tab.evaluate("options => posedance.fill(options)", SMALL | options)
    tab.wait_for_function(
        "value => document.querySelector('#f-steps input').value == value",
        arg=str((SMALL | options)["steps"]),
    )


def state(tab: Any, place: str, wanted: str) -> None:
    """Wait until a job is in a state."""
    tab.wait_for_function(
        "([place, wanted]) => document.querySelector(`${place} .pd-state`)?.textContent === wanted",
        arg=[place, wanted],
    )


def test_a_dance_is_fitted_run_and_played(tab: Any, page: Any, inputs: Path) -> None:
    tab.wait_for_selector("#example")
    give(tab, inputs)
    tab.wait_for_selector("#fit-picture[src], #animatic[src]", state="attached")
    tab.wait_for_selector("#animatic[src]")
    tab.wait_for_function("document.getElementById('animatic').readyState >= 2")
    assert tab.locator(".pd-person").count() == 1
    fill(tab)
    tab.click("#run")
    state(tab, "#current", "done")
    tab.click("#current .pd-play")
    tab.wait_for_function("document.querySelector('#current .pd-result').currentTime > 0.2")
    tab.click("#current .pd-play")
    tab.evaluate("""() => { const bar = document.querySelector('#current .pd-scrub');
        bar.value = 0.4; bar.dispatchEvent(new Event('input')); }""")
    tab.wait_for_function("Math.abs(document.querySelector('#current .pd-result').currentTime - 0.4) < 0.01")
    drawn = "[...document.querySelectorAll('#current canvas')].map(each => each.toDataURL().length)"
    assert len(tab.evaluate(drawn)) == 3 and min(tab.evaluate(drawn)) > 500
    (job,) = [path for path in page.jobs.iterdir() if not path.name.startswith(".")]
    assert (job / "config.yaml").is_file() and "dance" not in job.name
    tab.click("#current .pd-again .pd-primary")
    tab.wait_for_selector("#current .pd-reused")
    told = tab.inner_text("#current .pd-reused")
    assert "poses" in told and "control" in told and "latents" not in told
    tab.set_input_files("#driving .pd-folder", job)
    tab.wait_for_function("name => document.getElementById('like').textContent.includes(name)", arg=job.name)
    state(tab, "#current", "done")


def test_an_error_stands_beside_its_field(tab: Any, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    tab.set_input_files("#driving-file", tmp_path / "text.mp4")
    tab.wait_for_function("document.querySelector('#driving .pd-error').textContent.includes('text.mp4')")
    tab.click("#driving [data-do=camera]")
    tab.click("#driving .pd-camera + button >> text=Record")
    tab.wait_for_timeout(500)
    tab.click("#driving .pd-camera + button >> text=Stop")
    tab.wait_for_function("document.querySelector('#driving .pd-facts').textContent.includes('camera.webm')")
    assert tab.inner_text("#driving .pd-error") == ""
    give(tab, inputs)
    strip = tab.locator(".pd-strip").bounding_box()
    tab.mouse.move(strip["x"] + 9, strip["y"] + 30)
    tab.mouse.down()
    tab.mouse.move(strip["x"] + strip["width"] / 2, strip["y"] + 30, steps=4)
    tab.mouse.up()
    tab.wait_for_function(
        "posedance.values.start > 0.25"
    )  # of 0.625 s: the whole way, and no picture is dragged
    fill(tab, start=9)
    tab.click("#run")
    tab.wait_for_function("document.querySelector('#driving .pd-error').textContent.includes('past the end')")
    fill(tab, start=0, width=63)
    tab.click("#plan")
    tab.wait_for_function("document.querySelector('#run-error').textContent.includes('63')")


def is_helper(process: psutil.Process) -> bool:
    """Whether it is a process of the server's own, and no job."""
    return "posedance.pipeline" not in process.cmdline()


def test_killed_servers_lose_nothing_and_two_windows_see_the_same(
    tab: Any, page: Any, browser: Any, inputs: Path
) -> None:
    give(tab, inputs)
    fill(tab, steps=400)
    tab.click("#run")
    state(tab, "#current", "running")
    fill(tab, steps=3)
    tab.click("#run")
    state(tab, "#current", "waiting")
    working, (waits,) = page.queue()["working"], page.queue()["jobs"]
    for _ in range(2):
        helpers = [each for each in psutil.Process(page.process.pid).children() if is_helper(each)]
        page.kill()
        page.start()
        assert not psutil.wait_procs(helpers, timeout=30)[1]  # what makes previews ends with its server
        assert (page.queue()["working"], page.queue()["jobs"]) == (working, [waits])
    tab.goto(page.address)
    other = browser.new_page()
    other.goto(page.address)
    for window in (tab, other):
        window.click("#tabs button[role=tab] >> text=Jobs")
        window.wait_for_selector(f"#queue-list li.pd-working[data-name='{working}']")
        shown = f"document.querySelector(`#queue-list li[data-name='{waits}'] img`)?.naturalWidth > 0"
        window.wait_for_function(shown)  # the character, while nothing is made yet
    other.close()
    tab.wait_for_function(
        "document.querySelector('#queue-list .pd-working .pd-facts').textContent.includes('denoise')"
    )
    tab.click(f"#queue-list li[data-name='{working}'] >> text=Cancel")
    card = "document.querySelector(`[data-name='${name}'] .pd-state`)?.textContent"
    tab.wait_for_function(f"name => {card} === 'stopped'", arg=working)
    tab.wait_for_function(f"name => {card} === 'done'", arg=waits)
    assert (page.jobs / working / ".work" / "records" / "control.json").is_file()  # finished steps stay


def test_nothing_outside_is_served(page: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    base = page.address.rstrip("/")
    paths = [
        f"/gradio_api/file={tmp_path}/secret", f"/file={tmp_path}/secret", "/gradio_api/upload", "/config",
        f"/files/../..{tmp_path}/secret", f"/files/%2e%2e/%2e%2e{tmp_path}/secret", "/files/.web/queue.json",
        "/assets/..%2f..%2froutes.py", "/page/server.py", "/gradio_api/info", "/gradio_api/queue/join",
    ]  # fmt: skip
    for path in paths:
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(base + path, timeout=60)
        assert told.value.code in (403, 404), path
    with urllib.request.urlopen(base, timeout=60) as answer:
        text = answer.read().decode()
    assert "googleapis" not in text and "cdnjs" not in text and "raw.githubusercontent" not in text
    assert 'src="http' not in text and 'href="http' not in text
    with urllib.request.urlopen(f"{base}/api/jobs", timeout=60) as answer:
        assert isinstance(json.load(answer)["jobs"], list)


def test_500_jobs_are_listed_on_a_phone(page: Any, tab: Any) -> None:
    for number in range(500):
        records = page.jobs / f"old-{number:03d}" / ".work" / "records"
        records.mkdir(parents=True)
        (records / "poses.json").write_text('{"files": {}, "facts": {}}')
        (records.parents[1] / "config.yaml").write_text("driving: dance.mp4\nseed: 1\n")
    tab.goto(page.address)
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.click("#tabs button[role=tab] >> text=Jobs")
    tab.wait_for_function("document.querySelectorAll('#job-list .pd-job').length >= 48")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
