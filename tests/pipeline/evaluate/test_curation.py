"""Figures of a curation that is known to be right, and of one that is wrong in known places."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from posedance.datasets.curation.clip import Box, Clip
from posedance.datasets.curation.proof import ProofSource, make_plan
from posedance.pipeline.evaluate.curation_figures import Found, figures_of, table_of


@pytest.fixture(scope="module")
def plan() -> list[ProofSource]:
    return make_plan(40, 2)


def perfect(plan: list[ProofSource]) -> list[Found]:
    """Each scene found, and refused for what is wrong with it."""
    return [
        Found(
            source.name,
            Clip(Path(source.name), part.start, part.end, source.fps, part.bars),
            {part.reasons[0]: 0.0} if part.reasons else {},
            part.reasons[0] if part.reasons else None,
        )
        for source in plan
        for part in source.parts
    ]


def copies_in(plan: list[ProofSource]) -> dict[int, int]:
    first: dict[object, int] = {}
    parts = [part for source in plan for part in source.parts]
    good = [(i, part.shows) for i, part in enumerate(parts) if not part.reasons]
    return {i: first[shows] for i, shows in good if first.setdefault(shows, i) != i}


def test_all_right_is_one_everywhere(plan: list[ProofSource]) -> None:
    figures = figures_of(plan, perfect(plan), copies_in(plan), True)
    rows = [*figures["joins"].values(), figures["bars"], figures["duplicates"], figures["kept"]]
    assert all((row["precision"], row["recall"]) == (1, 1) and row["meant"] > 0 for row in rows)
    assert all((row["precision"], row["recall"]) == (1, 1) for row in figures["filters"].values())
    assert figures["unfound"] == 0 and "alone" in table_of(figures)


def test_each_fault_lowers_its_figure(plan: list[ProofSource]) -> None:
    found, copies = perfect(plan), copies_in(plan)
    still = next(i for i, one in enumerate(found) if one.reason == "frozen")
    fine = next(i for i, one in enumerate(found) if one.reason is None and i not in copies)
    barred = next(i for i, one in enumerate(found) if one.clip.bars is not None)
    wrong = list(found)
    wrong[still] = replace(found[still], reason=None)
    wrong[fine] = replace(found[fine], reason="camera")
    wrong[barred] = replace(found[barred], clip=replace(found[barred].clip, bars=Box(0, 0, 20, 20)))
    figures = figures_of(plan, wrong, copies, True)
    frozen, camera = figures["filters"]["frozen"], figures["filters"]["camera"]
    assert frozen["recall"] == (frozen["meant"] - 1) / frozen["meant"] and frozen["precision"] == 1
    assert camera["precision"] == camera["meant"] / (camera["meant"] + 1) and camera["recall"] == 1
    assert (
        figures["bars"]["recall"] < 1 and figures["kept"]["precision"] < 1 and figures["kept"]["recall"] < 1
    )


def test_copies_that_are_missed_or_made_up_count(plan: list[ProofSource]) -> None:
    copies = copies_in(plan)
    missed = dict(list(copies.items())[1:])
    assert figures_of(plan, perfect(plan), missed, True)["duplicates"] == {
        "meant": len(copies), "found": len(copies) - 1, "precision": 1.0,
        "recall": (len(copies) - 1) / len(copies), "f1": pytest.approx(1 - 1 / (2 * len(copies) - 1)),
    }  # fmt: skip
    fine = [i for i, one in enumerate(perfect(plan)) if one.reason is None and i not in copies.values()]
    other = next(i for i in fine if i not in copies)
    made_up = figures_of(plan, perfect(plan), {**copies, other: next(iter(copies.values()))}, True)
    assert made_up["duplicates"]["precision"] == len(copies) / (len(copies) + 1)


@pytest.mark.parametrize(("shift", "right"), [(0, True), (1, True), (2, False)])
def test_a_cut_may_be_one_frame_off(shift: int, right: bool) -> None:
    (source,) = [source for source in make_plan(40, 2) if source.name == "pillars_000"]
    first, second = source.parts
    clips = [(first.start, first.end + shift), (second.start + shift, second.end)]
    found = [Found(source.name, Clip(Path("a"), *span, Fraction(30)), {}, None) for span in clips]
    cut = figures_of([source], found, {}, False)["joins"]["cut"]
    assert (cut["precision"], cut["recall"]) == ((1, 1) if right else (0, 0))
