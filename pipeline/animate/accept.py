"""Whether poses are good enough to be animated: their figures, the limits, and what is said of both.

The limits decide whether the work goes on, not what comes of it: they are in no step's key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ...stages.errors import PoseError
from ...stages.pose.follow.report import PoseReport
from ..config_base import Config

Share = Annotated[float, Field(ge=0, le=1)]


class AcceptConfig(Config):
    """From where on poses are good enough. Measured on real clips: of two that show a dancer, and of parts of
    them, of people who walk and of what is no dancer; docs/poses.md has the figures."""

    min_seen: Share = 0.8
    """Share of the frames that show the dancer, after filling (0 to 1)."""
    min_body: Share = 0.5
    """Share of the body's joints that are found."""
    min_hands: Share = 0.1
    """Share of the hands that are found, two in each frame."""
    min_face: Share = 0.1
    """Share of the frames in which a face is found."""
    max_cut_off: Share = 0.36
    """Share of the visible joints that lie outside the picture. A dancer who is cut at the waist has 6 of
    17 there where they are known all the same: 0.35."""
    max_jitter: Annotated[float, Field(ge=0)] = 2.0
    """How much joints may shake while they are slow, in per cent of the body's height."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: the option, the figure in words, its value, and what else to do about it."""

    option: str
    words: str
    value: Callable[[PoseReport], float | None]
    advice: str

    def told(self, value: float) -> str:
        """A value of this figure, for the user."""
        return f"{value:.2g} % of the height" if self.option == "max_jitter" else f"{value:.0%}"

    def bound(self, limits: AcceptConfig) -> str:
        """The limit, for the user."""
        most = self.option.startswith("max_")
        return f"{'at most' if most else 'at least'} {self.told(getattr(limits, self.option))}"

    def holds(self, report: PoseReport, limits: AcceptConfig) -> bool:
        """Whether the figure keeps the limit; one that nobody can tell does."""
        value, bound = self.value(report), getattr(limits, self.option)
        return value is None or (value <= bound if self.option.startswith("max_") else value >= bound)


LIMITS = (
    Limit(
        "min_seen",
        "frames with the dancer",
        lambda report: report.seen,
        "cut the video to where the dancer is, or name them with --person",
    ),
    Limit(
        "min_body",
        "body joints found",
        lambda report: report.body,
        "use a video that shows more of the dancer",
    ),
    Limit(
        "min_hands",
        "hands found",
        lambda report: report.hands,
        "use a video in which the hands are seen larger or sharper",
    ),
    Limit(
        "min_face",
        "frames with a face",
        lambda report: report.face,
        "use a video in which the dancer is seen from the front, and larger",
    ),
    Limit(
        "max_cut_off",
        "joints outside the picture",
        lambda report: report.cut_off,
        "use a video that shows the whole dancer",
    ),
    Limit(
        "max_jitter",
        "jitter",
        lambda report: report.jitter,
        "use a video that shows one dancer sharply, or another --estimator.name",
    ),
)


def refuse_poor_poses(report: PoseReport, limits: AcceptConfig, source: str, accepted: bool) -> list[str]:
    """Notes on poses that fall short of the limits and are `accepted` all the same: none or one.

    Raises PoseError where they are not accepted.
    """
    short = [limit for limit in LIMITS if not limit.holds(report, limits)]
    if not short:
        return []
    figures = ", ".join(f"{name_of(limit, report)} ({limit.bound(limits)})" for limit in short)
    if accepted:
        return [f"poses that fall short are used, since they were accepted: {figures}"]
    first = short[0]
    raised = f"{'raise' if first.option.startswith('max_') else 'lower'} --accept.{first.option}"
    raise PoseError(
        f"the poses of {source} are not good enough to animate: {figures}: {first.advice}, "
        f"{raised.replace('_', '-')}, or go on with --accept-poses"
    )


def name_of(limit: Limit, report: PoseReport) -> str:
    """A figure with its value."""
    value = limit.value(report)
    return f"{limit.words} {'-' if value is None else limit.told(value)}"


def short_line(report: PoseReport) -> str:
    """The figures in one line."""
    hands = [
        f"{side} hand {share(found)}" + ("" if found == filled else f" ({share(filled)} filled)")
        for side, found, filled in hands_of(report)
    ]
    parts = [f"{report.frames} frames", f"body joints found {share(report.body)}", *hands]
    parts.append(f"face {share(report.face)}")
    if report.jitter is not None:
        parts.append(f"jitter {report.jitter:.2g} %")
    return ", ".join([*parts, f"outside the picture {share(report.cut_off)}"])


def table(report: PoseReport, limits: AcceptConfig) -> str:
    """The figures, one a line, each with its limit, and whether they keep all of them."""
    rows = [
        ("frames", f"{report.frames}: {report.filled} filled, {report.missing} without anybody"),
        ("people seen at once", "-" if report.people is None else str(report.people)),
    ]
    for side, found, filled in hands_of(report):
        rows.append((f"frames with {side} hand", f"{share(found)}, {share(filled)} with gaps filled"))
    for limit in LIMITS:
        value = limit.value(report)
        told = "-" if value is None else limit.told(value)
        fault = (
            "" if limit.holds(report, limits) else "  NOT ENOUGH" if "min" in limit.option else "  TOO MUCH"
        )
        rows.append((limit.words, f"{told:<24}{limit.bound(limits)}{fault}"))
    good = all(limit.holds(report, limits) for limit in LIMITS)
    verdict = "good enough to animate" if good else "not good enough: animate stops, unless --accept-poses"
    return "\n".join(f"{name:<28}{value}" for name, value in [*rows, ("verdict", verdict)])


def hands_of(report: PoseReport) -> list[tuple[str, float | None, float | None]]:
    """Each hand: its side, and its share of the frames as found and with gaps filled."""
    return [
        ("left", report.left_hand, report.left_hand_filled),
        ("right", report.right_hand, report.right_hand_filled),
    ]


def share(value: float | None) -> str:
    """A share in per cent; - where nobody can tell."""
    return "-" if value is None else f"{value:.0%}"
