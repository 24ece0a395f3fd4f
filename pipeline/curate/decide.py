"""What becomes of a clip, from stored scores and thresholds alone: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Literal

from ...datasets.curation.scores import LEVELS, SCORES, Level, Score, refuses
from .config import CurateConfig
from .plugins import aesthetics_of

Scores = Mapping[str, float | bool]
"""Scores by the names of their filters."""
Status = Literal["kept", "rejected", "duplicate"]


def filters_of(config: CurateConfig) -> tuple[Score, ...]:
    """The filters that run, with the config's bounds, cheap first: their order is that of refusals."""
    own = [
        Score(
            score.name,
            score.level,
            score.measure,
            getattr(config.thresholds, score.name).at_least,
            getattr(config.thresholds, score.name).at_most,
            score.says,
        )
        for score in SCORES
        if score.available()
    ]
    own += aesthetics_of(config.aesthetics)
    return tuple(sorted(own, key=lambda score: LEVELS.index(score.level)))


def names_at(filters: Sequence[Score], level: Level) -> list[str]:
    """The filters of a level."""
    return [score.name for score in filters if score.level == level]


def refuses_value(score: Score, value: float | bool) -> bool:
    """Whether a filter refuses a clip with this score."""
    return refuses(value, score.at_least, score.at_most)


def first_refusal(filters: Sequence[Score], scores: Scores) -> Score | None:
    """The first filter whose score lies outside its bounds; those without a score do not count."""
    for score in filters:
        if score.name in scores and refuses_value(score, scores[score.name]):
            return score
    return None


def next_level(
    filters: Sequence[Score], measured: Mapping[Level, Scores], forced: bool = False
) -> Level | None:
    """The level to be measured next; None where an earlier one refuses, or where all are measured.

    With `forced`, refusals do not count.
    """
    for level in LEVELS:
        if level not in measured:
            return level
        if not forced and first_refusal(filters, measured[level]) is not None:
            return None
    return None


def passes(filters: Sequence[Score], measured: Mapping[Level, Scores], forced: bool = False) -> bool:
    """Whether all levels are measured and none refuses."""
    return len(measured) == len(LEVELS) and (
        forced or all(first_refusal(filters, measured[level]) is None for level in LEVELS)
    )


def counted(
    filters: Sequence[Score], measured: Mapping[Level, Scores], forced: bool = False
) -> dict[str, float | bool]:
    """The scores of the levels up to the first that refuses, by name: what one run with these bounds knows.

    Earlier runs may have measured more. With `forced`, all levels count.
    """
    known: dict[str, float | bool] = {}
    for level in LEVELS:
        scores = measured.get(level)
        if scores is None:
            break
        known |= scores
        if not forced and first_refusal(filters, scores) is not None:
            break
    return known
