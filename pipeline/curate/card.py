"""README.md of the output folder: the dataset's card, as Hugging Face shows it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from ...datasets.curation.scores import Score
from ..job.job import write_text
from .report import reason_kind
from .sources import licence_of
from .states import Decided, Known

CARD = "README.md"
LISTED = 100
"""Sources that the card lists."""
UNKNOWN = "not given"


def write_card(root: Path, decided: Sequence[Decided], known: Known, licences: Mapping[str, str]) -> None:
    """Write the card: what the dataset holds, of which sources and licences, and how it was chosen."""
    kept = [one for one in decided if one.row.status == "kept"]
    config = known.config
    frames = sum(one.encoded["frames"] for one in kept if one.encoded is not None)
    seconds = sum(
        float(one.encoded["frames"] / Fraction(one.encoded["fps"])) for one in kept if one.encoded is not None
    )
    sizes = Counter(f"{one.encoded['width']}x{one.encoded['height']}" for one in kept if one.encoded)
    sources = Counter(one.row.source for one in kept)
    by_licence: dict[str, list[str]] = {}
    for source in sources:
        by_licence.setdefault(licence_of(source, licences) or UNKNOWN, []).append(source)
    reasons = Counter(reason_kind(one.row.reason) for one in decided if one.row.reason is not None)
    lines = [
        "---",
        "task_categories: [image-to-video]",
        "tags: [dance, pose, controlnext, webdataset]",
        "configs:",
        "- config_name: default",
        "  data_files: shards/*.tar",
        "---",
        "",
        "# Dance clips with poses",
        "",
        f"{len(kept)} clips of one dancer each from {len(sources)} videos, {seconds / 60:.1f} minutes in "
        f"{frames:,} frames, with the dancer's 133 keypoints in every frame. Chosen and cut by "
        "`posedance curate` for training ControlNeXt on Stable Video Diffusion.",
        "",
        "## What is in it",
        "",
        "`shards/*.tar` as webdataset reads them: `KEY.mp4`, the clip at a constant rate, cropped around the "
        f"dancer to the aspect {config.width}:{config.height}; `KEY.poses.npz`, keypoints [T, 133, 2] "
        "(COCO-WholeBody, pixels), scores [T, 133], boxes of hands and face; `KEY.json`, where it comes from "
        "and all scores. `clips.parquet` has one row for every clip that was looked at, kept or not.",
        "",
        "| size | clips |",
        "|---|---|",
        *(f"| {size} | {count} |" for size, count in sizes.most_common(10)),
        "",
        "## Sources and licences",
        "",
        "The clips are under the licences of the videos that they were cut from.",
        "",
        "| licence | videos | clips |",
        "|---|---|---|",
        *(
            f"| {licence} | {len(names)} | {sum(sources[name] for name in names)} |"
            for licence, names in sorted(by_licence.items())
        ),
        "",
        *(f"- {name}: {count} clips" for name, count in sorted(sources.items())[:LISTED]),
        *([f"- and {len(sources) - LISTED} more in `clips.parquet`"] if len(sources) > LISTED else []),
        "",
        "## How it was chosen",
        "",
        f"Of {len(decided)} clips and sources {len(kept)} were kept. A clip is refused by the first of these "
        "that does not hold:",
        "",
        "| score | refused as | at least | at most | clips refused |",
        "|---|---|---|---|---|",
        *(row(score, reasons.pop(score.name, 0)) for score in known.filters),
        *(f"| | {reason} | | | {count} |" for reason, count in reasons.most_common()),
        "",
        f"Poses were found by {config.estimator.name}; nobody checked them by hand. Nobody asked who "
        "dances: see to the consent of the people shown before you publish this.",
        "",
    ]
    write_text(root / CARD, "\n".join(lines))


def row(score: Score, refused: int) -> str:
    """A filter's line in the card."""
    bounds = ("" if bound is None else f"{bound:g}" for bound in (score.at_least, score.at_most))
    return f"| {score.name} | {score.says} | {' | '.join(bounds)} | {refused} |"
