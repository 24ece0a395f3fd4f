"""`index.html` of a batch: its videos, some at a time, from one list in the page.

A page of 10,000 <video> elements does not open. So the names and states are data, from which a script of a
few lines shows a page of videos, by state or by a part of their names. A video and its picture (the contact
sheet) are fetched when they come into sight.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..animate.graph import STEPS
from ..job.evaluation import line_of, read_evaluation
from ..job.job import Job, read_record, write_text
from .status import ItemState


def write_index(root: Path, states: Sequence[ItemState], lines: Sequence[str] = ()) -> None:
    """Write index.html: every video's comparison, or why there is none; `lines` sum up the run that ended."""
    counts = Counter(state.status for state in states)
    ordered = sorted(states, key=lambda state: (state.status != "quarantined", state.name))
    rows = (
        json.dumps([state.name, state.status, about(root, state), *measured(root, state)])
        for state in ordered
    )
    values = {
        "TITLE": f"{len(states)} videos: {counts['done']} done, {counts['quarantined']} given up",
        "LINES": html.escape("\n".join(lines)),
        "VIDEOS": ",\n".join(rows).replace("<", "\\u003c"),
    }
    page = re.sub("@([A-Z]+)@", lambda place: values[place.group(1)], PAGE)
    write_text(root / "index.html", page)


def about(root: Path, state: ItemState) -> str:
    """The file of a finished video in its folder, or why there is none."""
    if state.status == "quarantined":
        return f"{state.stage}, after {state.attempts} attempts: {state.error}"
    if state.status == "waiting":
        return "not made yet"
    records = (read_record(Job(root / state.name).record_path(step)) for step in ("upscale", "result"))
    record = next((record for record in records if record is not None), None)
    return STEPS["result"].writes[0] if record is None else next(iter(record["files"]))


def measured(root: Path, state: ItemState) -> list[str]:
    """What `evaluate result` found in a finished video, in one line, if it was asked."""
    figures = read_evaluation(root / state.name) if state.status == "done" else None
    return [] if figures is None else [line_of(figures)]


def lines_of(root: Path) -> list[str]:
    """The lines that sum up the last run, of the page that is there."""
    page = (root / "index.html").read_text(encoding="utf-8")
    found = re.search("<pre>(.*?)</pre>", page, re.DOTALL)
    return html.unescape(found.group(1)).splitlines() if found else []


# A row of the list is [name, state, the result's file or why there is none, what was measured if it was].
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title><style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)); gap: 1rem; }
section { border: 1px solid #ccc; border-radius: 6px; padding: 0 1rem; overflow-wrap: anywhere; }
section.quarantined { border-color: #c33; background: #fff4f2; }
h2 { font-size: 1rem; } video { width: 100%; min-height: 8rem; } nav * { font: inherit; margin-right: .5rem; }
</style></head><body><h1>@TITLE@</h1><pre>@LINES@</pre>
<nav><button id="back">&larr;</button><button id="on">&rarr;</button><span id="where"></span>
<select id="state"><option value="">all</option><option value="done">done</option>
<option value="quarantined">given up</option><option value="waiting">not made yet</option></select>
<input id="name" type="search" placeholder="part of a name"></nav>
<main></main><noscript>This page needs JavaScript; the videos lie in the folders beside it.</noscript>
<script id="videos" type="application/json">[
@VIDEOS@
]</script>
<script>
const PER_PAGE = 24;
const videos = JSON.parse(document.getElementById("videos").textContent);
const [state, name, main] = ["#state", "#name", "main"].map(each => document.querySelector(each));
let page = 0;
const seen = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) {
    if (isIntersecting) { seen.unobserve(target); Object.assign(target, target.later); }
  }
}, {rootMargin: "300px"});
function element(tag, content, values = {}) {
  const made = Object.assign(document.createElement(tag), values);
  made.append(...content);
  return made;
}
function shown([name, state, about, measured]) {
  const folder = encodeURIComponent(name) + "/", rest = [];
  if (state === "done") {
    const video = element("video", [], {controls: true, muted: true, loop: true, preload: "none"});
    video.later = {poster: folder + "contact_sheet.png", src: folder + "comparison.mp4"};
    seen.observe(video);
    const result = element("a", ["result"], {href: folder + encodeURIComponent(about)});
    rest.push(video, element("p", [result, " · ", element("a", ["files"], {href: folder})]));
    if (measured) rest.push(element("p", [measured]));
  } else {
    rest.push(element("p", [about]));
  }
  return element("section", [element("h2", [name]), ...rest], {className: state});
}
function show() {
  const asked = name.value.toLowerCase();
  const found = videos.filter(video => (!state.value || video[1] === state.value)
    && video[0].toLowerCase().includes(asked));
  const last = Math.max(0, Math.ceil(found.length / PER_PAGE) - 1);
  page = Math.min(Math.max(page, 0), last);
  document.getElementById("where").textContent = `page ${page + 1} of ${last + 1}, ${found.length} videos`;
  seen.disconnect();
  main.replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(shown));
}
function turn(pages) { page += pages; show(); scrollTo(0, 0); }
document.getElementById("back").onclick = () => turn(-1);
document.getElementById("on").onclick = () => turn(1);
state.onchange = name.oninput = () => { page = 0; show(); };
show();
</script></body></html>
"""
