"""The tabs of batches and of curations in a real browser."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from posedance.pipeline.config import write_yaml
from posedance.pipeline.curate.config import CurateConfig
from posedance.pipeline.curate.sources import read_overrides
from posedance.pipeline.curate.table import TABLE, Row, write_table

pytestmark = pytest.mark.timeout(600)


def open_tab(tab: Any, name: str) -> None:
    tab.click(f"#tabs button[role=tab] >> text={name}")


def test_a_batch_runs_and_one_that_was_given_up_is_tried_again(tab: Any, page: Any, inputs: Path) -> None:
    nobody = inputs / "nobody.png"
    if not nobody.is_file():
        from PIL import Image

        Image.new("RGB", (64, 64), "white").save(nobody)
    tab.set_input_files("#driving-file", inputs / "dance.mp4")
    tab.set_input_files("#character-file", [inputs / "character.png", nobody])
    tab.wait_for_function("document.querySelectorAll('#character .pd-gallery button').length === 2")
    small = {"model": "tiny-random", "steps": 1, "width": 64, "height": 64, "stride": 1}
    tab.evaluate("options => posedance.fill(options)", small)
    tab.wait_for_function("document.querySelector('#f-steps input').value === '1'")
    open_tab(tab, "Batch")
    for box in ("#batch-videos", "#batch-pictures"):
        tab.wait_for_selector(f"{box} input")
        for each in tab.query_selector_all(f"{box} input"):
            each.check()
    tab.select_option("#batch-executor", "local")
    tab.click("#batch-run")
    tab.wait_for_selector("#batch-view :text('1 of 2 done, 1 given up, 0 waiting; not running')")
    assert "no person found" in tab.inner_text("#batch-view .pd-job .pd-error")
    assert tab.locator("#batch-view tbody tr").count() >= 3
    (job,) = [path for path in page.jobs.iterdir() if (path / ".work" / "items.json").is_file()]
    quarantine = next((job / ".work" / "quarantine").iterdir())
    before = quarantine.stat().st_mtime_ns
    tab.wait_for_function("document.getElementById('queue-chip').textContent === 'nothing runs'")
    tab.click("#batch-view >> text=Try again")
    tab.wait_for_selector("#batch-view :text('1 of 2 done, 0 given up, 1 waiting')")
    tab.wait_for_selector("#batch-view :text('1 of 2 done, 1 given up, 0 waiting; not running')")
    assert quarantine.stat().st_mtime_ns > before


def test_clips_are_judged_by_keys_and_bounds_by_sliders(tab: Any, page: Any) -> None:
    folder = page.jobs / "clips"
    (folder / ".work" / "content").mkdir(parents=True)
    rows = [
        Row("a.mp4", "kept", None, "0" * 64, 90 * i, 90 * (i + 1), Fraction(30), {"duration": 3.0 + i})
        for i in range(4)
    ]
    write_table(folder / TABLE, rows, ["duration"])
    (folder / "config.yaml").write_text(write_yaml(CurateConfig(output=folder, sources=folder)))
    tab.reload()
    open_tab(tab, "Curation")
    counts = "document.getElementById('curate-counts').textContent"
    tab.wait_for_function(f"{counts} === '4 kept, 0 rejected, 0 duplicates of 4'")
    tab.locator("#curate-filters input[type=range]").first.fill("4.5")
    tab.wait_for_function(f"{counts} === '2 kept, 2 rejected, 0 duplicates of 4'")
    for key in "jkkf":  # the last is forgotten, for it is the one that is looked at
        tab.keyboard.press(key)
    tab.wait_for_function(f"{counts} === '2 kept, 2 rejected, 0 duplicates of 4'")
    said = folder / "overrides-page.csv"
    tab.wait_for_function("document.getElementById('curate-said').textContent.startsWith('3 said')")
    words = {start: status for (_, start), status in read_overrides(said).items()}
    assert words == {0: "kept", 90: "rejected", 180: "rejected"}
