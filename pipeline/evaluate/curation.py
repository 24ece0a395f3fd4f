"""Measure curation on the proof set, whose answers are known: `run.py evaluate curation`."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ...datasets.curation import dissolves, people
from ...datasets.curation.clip import Probe
from ...datasets.curation.duplicates import duplicates
from ...datasets.curation.fingerprint import Fingerprint, fingerprint
from ...datasets.curation.frames import frames_of
from ...datasets.curation.proof import ProofSource, make_plan, write_source
from ...datasets.curation.scores import SCORES, refuses
from ...datasets.curation.shots import damaged_frames, find_clips
from ...stages.media.video import DecodeReport, probe
from ...stages.pose.base import PoseEstimator
from ..animate.tools import opened
from ..config import EstimatorConfig, JsonFile
from ..config_base import Config
from ..progress import stage
from .curation_figures import Found, figures_of, table_of
from .figures import write_figures

POSES_A_SECOND = Fraction(15)
"""At most, as a training sees them."""


class EvaluateCurationConfig(Config):
    """What is measured."""

    estimator: EstimatorConfig = EstimatorConfig()
    clips: Annotated[int, Field(ge=1)] = 300
    """Scenes of the proof set, about."""
    seed: Annotated[int, Field(ge=0, lt=1000)] = 0
    """Decides dancers, dances and their order."""
    folder: Path = Path("out", "proof")
    """Folder of the drawn sources; those that are there are not drawn again."""
    json_file: JsonFile = None
    """File that gets the figures."""


def evaluate_curation(config: EvaluateCurationConfig) -> str:
    """Precision and recall of cuts, filters and duplicates as a table; writes JSON if asked."""
    plan = make_plan(config.clips, config.seed)
    folder = config.folder / f"{config.clips}_{config.seed}"
    found: list[Found] = []
    prints: list[Fingerprint] = []
    whose: list[int] = []
    with opened(config.estimator) as estimator, stage("evaluate", len(plan), "source") as done:
        for source in plan:
            for one, fingers in judged(source, folder, estimator):
                if fingers is not None:
                    whose.append(len(found))
                    prints.append(fingers)
                found.append(one)
            done(1)
    fine = [found[place].reason is None for place in whose]
    copies = {whose[pair.copy]: whose[pair.original] for pair in duplicates(prints, fine)}
    for place in copies:
        found[place] = replace(found[place], reason="duplicate")
    figures = figures_of(plan, found, copies, dissolves.available())
    write_figures(config.json_file, figures)
    return table_of(figures)


def judged(
    source: ProofSource, folder: Path, estimator: PoseEstimator
) -> Iterator[tuple[Found, Fingerprint | None]]:
    """The clips of a source with what refuses each, and a fingerprint of those whose dancer was followed."""
    path = write_source(source, folder)
    info, report = probe(path), DecodeReport()
    for clip in find_clips(path, info, find_dissolves=dissolves.available(), report=report):
        scores, fingers = judge(Probe(info, clip, damaged_frames(clip, report)), estimator)
        yield Found(source.name, clip, scores, first_refusal(scores)), fingers


def judge(probed: Probe, estimator: PoseEstimator) -> tuple[dict[str, float], Fingerprint | None]:
    """The scores of the levels that a clip reaches; its fingerprint where that is all of them."""
    clip, info = probed.clip, probed.info
    scores = measured("probe", probed)
    if first_refusal(scores) is not None:
        return scores, None
    frames = frames_of(clip, info)
    scores |= measured("frames", frames)
    if first_refusal(scores) is not None:
        return scores, None
    scores |= measured("sparse", people.sparse(frames, estimator))
    if first_refusal(scores) is not None:
        return scores, None
    dense = people.dense(clip, info, estimator, clip.fps / max(1, ceil(clip.fps / POSES_A_SECOND)))
    scores |= measured("dense", dense)
    return scores, fingerprint(frames, dense)


def measured(level: str, evidence: Any) -> dict[str, float]:
    """The scores of a level, of its evidence."""
    return {
        score.name: float(score.measure(evidence))
        for score in SCORES
        if score.level == level and score.available()
    }


def first_refusal(scores: dict[str, float]) -> str | None:
    """The name of the first filter whose default bounds a clip misses."""
    for score in SCORES:
        if score.name in scores and refuses(scores[score.name], score.at_least, score.at_most):
            return score.name
    return None
