"""Precision and recall of curation against the plan of a proof set: pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...datasets.curation.clip import Box, Clip
from ...datasets.curation.proof import Join, Part, ProofSource
from ...datasets.curation.scores import SCORES

NEAR = 1
"""Frames by which a cut may be missed."""
NEAR_GRADUAL = 2
"""Frames by which a clip may begin or end away from a fade or dissolve: TransNetV2's own evaluation has 2."""
SAME = 0.7
"""Overlap over union from which a clip is that of a scene."""
BARS = 4
"""Pixels by which the edge of bars may be missed."""

Key = tuple[str, int]
"""A scene: the name of its source and its place in it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One clip of a source by name, its scores, and the filter that refuses it."""

    source: str
    clip: Clip
    scores: Mapping[str, float]
    reason: str | None


def figures_of(
    plan: Sequence[ProofSource], found: Sequence[Found], copies: Mapping[int, int], dissolves: bool
) -> dict[str, Any]:
    """All figures; `copies` tells of places in `found` which other place each is a copy of.

    Sources with dissolves count for the cuts alone where `dissolves` were not looked for.
    """
    figures: dict[str, Any] = {"clips": sum(len(source.parts) for source in plan)}
    kinds = ("cut", "fade", "dissolve") if dissolves else ("cut", "fade")
    figures["joins"] = {kind: joins_of(plan, found, kind) for kind in kinds}
    known = plan if dissolves else [source for source in plan if not has_dissolves(source)]
    matches = matched(known, found)
    figures["filters"] = {
        score.name: filter_of(score.name, matches, found) for score in SCORES if score.available()
    }
    figures["bars"] = bars_of(matches, found)
    figures["kept"] = kept_of(matches, found, copies)
    figures["duplicates"] = duplicates_of(matches, copies)
    figures["unfound"] = sum(place is None for _, place in matches.values())
    return figures


def has_dissolves(source: ProofSource) -> bool:
    return any(join.kind == "dissolve" for join in source.joins)


def rates(right: int, found: int, meant: int) -> dict[str, Any]:
    """Precision, recall and F1 of `right` among `found` and `meant`; 1 where there is nothing to miss."""
    precision = right / found if found else 1.0
    recall = right / meant if meant else 1.0
    both = precision + recall
    return {
        "meant": meant,
        "found": found,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
    }


def joins_of(plan: Sequence[ProofSource], found: Sequence[Found], kind: str) -> dict[str, Any]:
    """Boundaries of clips against the joins of this kind, in the sources whose joins are of it alone or cuts.

    A boundary is that between one clip's end and the next one's start; `meets` tells where it is right.
    """
    right = seen = meant = 0
    for source in plan:
        clips = sorted((one.clip for one in found if one.source == source.name), key=lambda c: c.start_frame)
        edges = [(a.end_frame, b.start_frame) for a, b in pairwise(clips)]
        joins = [join for join in source.joins if join.kind == kind]
        others = [join for join in source.joins if join.kind != kind]
        hits = [edge for edge in edges if any(meets(edge, join) for join in joins)]
        wrong = [edge for edge in edges if not any(meets(edge, join) for join in (*joins, *others))]
        right += sum(any(meets(edge, join) for edge in edges) for join in joins)
        seen += len(hits) + (len(wrong) if kind == "cut" or not has_cuts(source) else 0)
        meant += len(joins)
    return rates(right, seen, meant)


def has_cuts(source: ProofSource) -> bool:
    return any(join.kind == "cut" for join in source.joins)


def meets(edge: tuple[int, int], join: Join) -> bool:
    """Whether a boundary is that of a join: within NEAR frames of a cut, or inside the other kinds and about
    as long, or within NEAR_GRADUAL frames beyond.
    """
    if join.kind == "cut":
        return all(abs(side - join.start) <= NEAR for side in edge)
    room = (join.end - join.start) // 2
    (end, start), near = edge, NEAR_GRADUAL
    return join.start - near <= end <= join.start + room and join.end - room <= start <= join.end + near


def matched(plan: Sequence[ProofSource], found: Sequence[Found]) -> dict[Key, tuple[Part, int | None]]:
    """Each scene with the place in `found` of the clip that is of it, None where no clip is."""
    matches: dict[Key, tuple[Part, int | None]] = {}
    for source in plan:
        places = [i for i, one in enumerate(found) if one.source == source.name]
        for number, part in enumerate(source.parts):
            best = max(places, key=lambda i: overlap(found[i].clip, part), default=None)
            near = best is not None and overlap(found[best].clip, part) >= SAME
            matches[source.name, number] = part, best if near else None
    return matches


def overlap(clip: Clip, part: Part) -> float:
    """Frames that a clip and a scene share over those that either has: 0 to 1."""
    shared = min(clip.end_frame, part.end) - max(clip.start_frame, part.start)
    return max(0, shared) / (max(clip.end_frame, part.end) - min(clip.start_frame, part.start))


def filter_of(
    name: str, matches: Mapping[Key, tuple[Part, int | None]], found: Sequence[Found]
) -> dict[str, Any]:
    """Precision and recall of one filter.

    Of the scenes meant for it, the share refused for a reason of theirs; of those that it refuses, the share
    of which it is a reason. `good` and `bad` are the least and the greatest score of scenes with nothing
    wrong, and of those meant for it: bounds lie between.
    """
    clips = [(part, found[place]) for part, place in matches.values() if place is not None]
    meant = [part for part, _ in matches.values() if part.reasons[:1] == (name,)]
    hit = sum(one.reason in part.reasons for part, one in clips if part.reasons[:1] == (name,))
    refused = [part for part, one in clips if one.reason == name]
    right = sum(name in part.reasons for part in refused)
    good = sorted(one.scores[name] for part, one in clips if not part.reasons and name in one.scores)
    bad = sorted(
        one.scores[name] for part, one in clips if part.reasons[:1] == (name,) and name in one.scores
    )
    return {
        "meant": len(meant),
        "refused": len(refused),
        "precision": right / len(refused) if refused else 1.0,
        "recall": hit / len(meant) if meant else 1.0,
        "good": [good[0], good[-1]] if good else None,
        "bad": [bad[0], bad[-1]] if bad else None,
    }


def bars_of(matches: Mapping[Key, tuple[Part, int | None]], found: Sequence[Found]) -> dict[str, Any]:
    """Bars that are found, all four edges within BARS pixels."""
    pairs = [(part.bars, found[place].clip.bars) for part, place in matches.values() if place is not None]
    right = sum(truth is not None and box is not None and near(truth, box) for truth, box in pairs)
    return rates(
        right, sum(box is not None for _, box in pairs), sum(truth is not None for truth, _ in pairs)
    )


def near(truth: Box, box: Box) -> bool:
    edges = zip((truth.x0, truth.y0, truth.x1, truth.y1), (box.x0, box.y0, box.x1, box.y1), strict=True)
    return all(abs(true - other) <= BARS for true, other in edges)


def kept_of(
    matches: Mapping[Key, tuple[Part, int | None]], found: Sequence[Found], copies: Mapping[int, int]
) -> dict[str, Any]:
    """Clips that are kept against those that should be; of copies of one another, one should."""
    right = kept = 0
    shown: set[tuple[int, str | None]] = set()
    for part, place in matches.values():
        if place is None or found[place].reason is not None or place in copies:
            continue
        kept += 1
        if not part.reasons and part.shows not in shown:
            right += 1
            shown.add(part.shows)
    return rates(right, kept, len({part.shows for part, _ in matches.values() if not part.reasons}))


def duplicates_of(
    matches: Mapping[Key, tuple[Part, int | None]], copies: Mapping[int, int]
) -> dict[str, Any]:
    """Copies that are found against those there are: of clips that show the same, all but one."""
    shows = {place: part.shows for part, place in matches.values() if place is not None}
    good = [part.shows for part, _ in matches.values() if not part.reasons]
    right = sum(shows.get(copy) == shows.get(original, ()) for copy, original in copies.items())
    return rates(right, len(copies), len(good) - len(set(good)))


def table_of(figures: Mapping[str, Any]) -> str:
    """The figures as a table for reading."""
    lines = [f"{figures['clips']} scenes, {figures['unfound']} without a clip of theirs", ""]
    lines.append(f"{'':<16}{'meant':>8}{'found':>8}{'precision':>11}{'recall':>9}{'F1':>8}")
    groups = {**{f"{kind}s": row for kind, row in figures["joins"].items()}}
    groups |= {name: figures[name] for name in ("bars", "duplicates", "kept")}
    for name, row in groups.items():
        lines.append(
            f"{name:<16}{row['meant']:>8}{row['found']:>8}{row['precision']:>11.3f}{row['recall']:>9.3f}"
            f"{row['f1']:>8.3f}"
        )
    lines += [
        "",
        f"{'filter':<16}{'meant':>8}{'refused':>8}{'precision':>11}{'recall':>9}  good / bad scores",
    ]
    for name, row in figures["filters"].items():
        good, bad = (
            "-" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}" for ends in (row["good"], row["bad"])
        )
        lines.append(
            f"{name:<16}{row['meant']:>8}{row['refused']:>8}{row['precision']:>11.3f}{row['recall']:>9.3f}"
            f"  {good} / {bad}"
        )
    return "\n".join(lines)
