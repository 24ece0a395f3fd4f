"""report.html: what was kept and what was not, by reason and source, with histograms and moments of clips."""

import html
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...datasets.curation.scores import LEVELS, Level, Score
from ..config import write_yaml
from ..job.job import write_text
from .decide import refuses_value
from .histogram import draw_histogram
from .pictures import strip_of
from .states import Decided, Known

REPORT, PICTURES = "report.html", "report"
SHOWN = 24
"""Clips that are shown of what was kept, and of each reason, evenly spread over all."""
SOURCES_LISTED = 200
"""Sources in the table by source, those with the most clips."""


def reason_kind(reason: str) -> str:
    """What kind of reason it is: of one that tells more, what stands before the colon."""
    return reason.partition(":")[0]


def write_report(root: Path, decided: Sequence[Decided], known: Known) -> None:
    """Write the page and the pictures that it shows, in the folder `report/`."""
    folder = root / PICTURES
    folder.mkdir(exist_ok=True)
    groups: dict[str, list[Decided]] = {"kept": [one for one in decided if one.row.status == "kept"]}
    reasons = Counter(reason_kind(one.row.reason) for one in decided if one.row.reason is not None)
    for reason in sorted(reasons, key=lambda reason: (-reasons[reason], reason)):
        groups[reason] = [one for one in decided if one.row.reason and reason_kind(one.row.reason) == reason]
    words = {score.name: score.says for score in known.filters} | OTHERS
    by_key = {one.row.key: one for one in decided}
    shown: set[str] = set()
    parts = [
        *summary(decided),
        *reasons_table(groups, words),
        *sources_table(decided),
        *histograms(decided, known.filters),
    ]
    for name, members in groups.items():
        title = "kept" if name == "kept" else f"{name}: {words.get(name, '')}".rstrip(": ")
        parts.append(f'<h2 id="{html.escape(name)}">{html.escape(title)} ({len(members)})</h2>')
        parts += gallery(members, by_key, folder, shown)
    parts.append(f"<h2>config</h2><pre>{html.escape(write_yaml(known.config))}</pre>")
    for path in folder.glob("*.jpg"):
        if path.name not in shown:
            path.unlink()
    write_text(root / REPORT, PAGE.format(body="\n".join(parts)))


OTHERS = {
    "duplicate": "a copy of a clip that is kept",
    "review": "a person rejected it",
    "unreadable": "the source cannot be read",
    "empty": "the source is empty",
    "not a video": "by the end of its name",
    "not a file": "a device, pipe or socket",
    "broken link": "it leads nowhere, or to itself",
    "too large": "frames of more than max_pixels",
    "cut off": "the source promises more frames than it has",
    "no clip": "nothing but fades and black",
    "given up": "a worker failed, again and again; --retry-quarantined tries once more",
}
"""Reasons beside those of the filters, in words."""


def summary(decided: Sequence[Decided]) -> Iterator[str]:
    """The whole in figures."""
    counts = Counter(one.row.status for one in decided)
    seconds = dict.fromkeys(("kept", "rejected", "duplicate"), 0.0)
    for one in decided:
        row = one.row
        if row.start_frame is not None and row.end_frame is not None and row.fps is not None:
            seconds[row.status] += float((row.end_frame - row.start_frame) / row.fps)
    sources = len({one.row.source for one in decided})
    yield f"<h1>{counts['kept']} of {len(decided)} clips kept, from {sources} sources</h1>"
    yield table(
        ("", "clips", "minutes"),
        [(status, counts[status], f"{seconds[status] / 60:.1f}") for status in seconds],
    )


def reasons_table(groups: Mapping[str, Sequence[Decided]], words: Mapping[str, str]) -> Iterator[str]:
    """How many clips each reason took."""
    total = sum(len(members) for members in groups.values())
    yield "<h2>by reason</h2>"
    yield table(
        ("reason", "in words", "clips", "share"),
        [
            (Link(name), words.get(name, ""), len(members), f"{len(members) / total:.1%}")
            for name, members in groups.items()
        ],
    )


def sources_table(decided: Sequence[Decided]) -> Iterator[str]:
    """What each source gave."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    for one in decided:
        rows[one.row.source][one.row.status] += 1
        if one.row.reason is not None:
            why[one.row.source][one.row.reason] += 1
    listed = sorted(rows, key=lambda source: (-rows[source].total(), source))[:SOURCES_LISTED]
    more = f", the {SOURCES_LISTED} with the most clips" if len(rows) > SOURCES_LISTED else ""
    yield f"<h2>by source{more}</h2>"
    yield table(
        ("source", "kept", "rejected", "duplicates", "reasons"),
        [
            (
                source,
                rows[source]["kept"],
                rows[source]["rejected"],
                rows[source]["duplicate"],
                ", ".join(f"{reason} ({count})" for reason, count in why[source].most_common(4)),
            )
            for source in listed
        ],
    )


def histograms(decided: Sequence[Decided], filters: Sequence[Score]) -> Iterator[str]:
    """Each score's distribution over the clips that it was measured of, with its bounds."""
    yield '<h2>scores</h2><p>Red lines are the bounds; what lies beyond is refused.</p><div class="grid">'
    for score in filters:
        values = [float(one.row.scores[score.name]) for one in decided if score.name in one.row.scores]
        if values:
            refused = sum(refuses_value(score, value) for value in values)
            yield (
                f"<figure><figcaption><b>{html.escape(score.name)}</b>: {html.escape(score.says)}, "
                f"{refused} of {len(values)}</figcaption>"
                f"{draw_histogram(np.array(values), score.at_least, score.at_most)}</figure>"
            )
    yield "</div>"


def gallery(
    members: Sequence[Decided], by_key: Mapping[str | None, Decided], folder: Path, shown: set[str]
) -> Iterator[str]:
    """Moments of some clips; of sources without a clip their names and reasons."""
    places = np.unique(np.linspace(0, len(members) - 1, min(SHOWN, len(members))).round().astype(int))
    chosen = [members[i] for i in places.tolist()]
    yield '<div class="clips">'
    for one in chosen:
        row = one.row
        if row.start_frame is None:
            yield f"<p>{html.escape(row.source)}: {html.escape(row.reason or '')}</p>"
            continue
        value = "" if row.reason not in row.scores else f", {row.reason} {row.scores[row.reason]:.4g}"
        caption = f"{row.source}, frames {row.start_frame} to {row.end_frame}{value}"
        yield f"<figure><figcaption>{html.escape(caption)}</figcaption>{picture(one, folder, shown)}"
        original = by_key.get(row.duplicate_of) if row.duplicate_of is not None else None
        if original is not None:
            caption = f"a copy of {original.row.source}, frames {original.row.start_frame} on"
            yield f"<figcaption>{html.escape(caption)}</figcaption>{picture(original, folder, shown)}"
        yield "</figure>"
    yield "</div>"


def picture(one: Decided, folder: Path, shown: set[str]) -> str:
    """The strip of the last level whose scores count, as an element of the page."""
    if one.folder is None:
        return ""
    known: list[Level] = [
        level for level in LEVELS[1:] if level in one.levels and (one.folder / strip_of(level)).is_file()
    ]
    if not known:
        return "<p>refused before any picture was looked at</p>"
    name = f"{one.row.key}.jpg"
    copy_strip(one.folder / strip_of(known[-1]), folder / name)
    shown.add(name)
    return f'<img src="{PICTURES}/{html.escape(name)}" alt="" loading="lazy">'


def copy_strip(source: Path, target: Path) -> None:
    """The strip under another name: the same file where the disk can, else a copy."""
    with suppress(FileNotFoundError):
        if source.samefile(target):
            return
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class Link(str):
    """The name of a part of the page, which a cell of a table leads to."""


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of the page."""

    def cell(value: object) -> str:
        text = html.escape(str(value))
        number = ' class="number"' if isinstance(value, int) else ""
        return (
            f"<td{number}>" + (f'<a href="#{text}">{text}</a>' if isinstance(value, Link) else text) + "</td>"
        )

    head = "".join(f"<th>{html.escape(name)}</th>" for name in heading)
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>curation</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15rem .8rem .15rem 0; text-align: left; }}
td.number {{ text-align: right; }} tr:nth-child(even) {{ background: #f5f5f5; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }}
.clips {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(38rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figcaption {{ font-size: .85rem; overflow-wrap: anywhere; }}
img {{ max-width: 100%; display: block; }} pre {{ background: #f5f5f5; padding: 1rem; overflow-x: auto; }}
</style></head><body>
{body}
</body></html>
"""
