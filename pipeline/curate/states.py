"""What is known of the sources, read from records alone; what is left to measure; what that decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...datasets.curation.scores import LEVELS, Level, Score
from ..batch.manifest import tidy
from ..job.job import Job
from ..workers.executor import Task
from .config import CurateConfig
from .decide import Scores, Status, counted, filters_of, first_refusal, names_at, next_level, passes
from .sources import Source
from .stages import ClipWork, LookWork
from .store import (
    ENCODED,
    GUIDE,
    FoundClip,
    Keys,
    Look,
    clip_folder,
    clip_task,
    given_up,
    keys_of,
    measured_of,
    read_look,
    refused_reading,
    source_key,
)
from .table import Row

Overrides = Mapping[tuple[str, int], str]
"""`kept` or `rejected`, as a person said of clips, by source and first frame."""
READABLE = 40
"""Characters of a source's name that the keys of its clips begin with."""
Copies = Callable[[Sequence[Path], Sequence[bool]], Mapping[int, int]]
"""Of clips, by their job folders and whether they pass, which are copies, and of which."""


@dataclass(frozen=True, slots=True)
class ClipState:
    """A clip and the scores of its levels that were measured; `refused`, `given_up`: why no more were."""

    found: FoundClip
    folder: Path
    measured: Mapping[Level, Scores]
    encoded: Mapping[str, Any] | None
    refused: str | None
    given_up: str | None


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source, what is known of it, and its clips. Without `look` it was not looked at yet, or given up."""

    source: Source
    look: Look | None
    clips: tuple[ClipState, ...]
    given_up: str | None

    @property
    def waits(self) -> bool:
        """Whether it was not looked at yet."""
        return self.look is None and self.source.refused is None and self.given_up is None

    @property
    def lost(self) -> int:
        """How many tasks of it were given up."""
        return (self.given_up is not None) + sum(each.given_up is not None for each in self.clips)


class Known:
    """What a config makes of a curation's records."""

    def __init__(self, root: Path, config: CurateConfig, overrides: Overrides) -> None:
        self.root, self.config, self.overrides = root, config, overrides
        self.filters: tuple[Score, ...] = filters_of(config)
        self.keys: Keys = keys_of(config)

    def state(self, source: Source) -> SourceState:
        """What is known of a source. No video is read."""
        if source.refused is not None:
            return SourceState(source, None, (), None)
        look = read_look(self.root, source, self.keys)
        why = None if look else given_up(self.root, source.identity, source_key(source, self.keys))
        clips = () if look is None else tuple(self._clip(look.content, found) for found in look.clips)
        return SourceState(source, look, clips, why)

    def _clip(self, content: str, found: FoundClip) -> ClipState:
        folder = clip_folder(self.root, content, found.clip)
        job, encoded = Job(folder), None
        if job.holds(ENCODED, self.keys.of(ENCODED, content, found.clip)) and (
            not self.config.published or job.holds(GUIDE, self.keys.of(GUIDE, content, found.clip))
        ):
            encoded = job.facts(ENCODED)
        measured = measured_of(self.root, content, found, self.keys)
        key = self.keys.of_clip(content, found.clip)
        why = given_up(self.root, clip_task(content, found.clip), key)
        return ClipState(found, folder, measured, encoded, refused_reading(job, key), why)

    def forced(self, source: Source, start_frame: int) -> bool:
        """Whether a person keeps a clip, whatever its scores."""
        return self.overrides.get((source.name, start_frame)) == "kept"

    def to_look_at(self, state: SourceState) -> Task | None:
        """The task that finds a source's clips; None where that is done."""
        source = state.source
        if source.refused is not None or state.look is not None:
            return None
        if state.given_up is not None and not self.config.retry_quarantined:
            return None
        work = LookWork(self.root, source, self.config, source_key(source, self.keys))
        return Task(source.identity, "look", 0, work, item=source.name)

    def to_finish(self, state: SourceState) -> list[Task]:
        """The tasks of the clips of a source that are to be measured further, or encoded."""
        look, tasks = state.look, []
        for each in state.clips:
            assert look is not None and look.info is not None
            if each.refused or (each.given_up is not None and not self.config.retry_quarantined):
                continue
            forced, clip = self._forced(state, each), each.found.clip
            passed = passes(self.filters, each.measured, forced)
            if next_level(self.filters, each.measured, forced) is None and not (
                passed and each.encoded is None
            ):
                continue
            key, name = self.keys.of_clip(look.content, clip), clip_task(look.content, clip)
            work = ClipWork(self.root, look.content, look.info, each.found, self.config, key, forced)
            where = f"{state.source.name} from frame {clip.start_frame}"
            tasks.append(Task(name, "clip", 0, work, item=where))
        return tasks

    def _forced(self, state: SourceState, clip: ClipState) -> bool:
        return self.forced(state.source, clip.found.clip.start_frame)

    def rows(self, states: Sequence[SourceState], copies: Copies) -> list["Decided"]:
        """The table's rows in the order of the sources, without shards."""
        decided = [one for state in states for one in self._rows_of(state)]
        candidates = [
            (i, one.folder) for i, one in enumerate(decided) if one.folder and "dense" in one.levels
        ]
        fine = [decided[i].row.status == "kept" for i, _ in candidates]
        found = copies([folder for _, folder in candidates], fine)
        for copy, original in found.items():
            place, kept = candidates[copy][0], decided[candidates[original][0]].row.key
            one = decided[place]
            if not one.forced:
                row = replace(one.row, status="duplicate", reason="duplicate", duplicate_of=kept)
                decided[place] = replace(one, row=row)
        return [self._reviewed(one) for one in decided]

    def _reviewed(self, one: "Decided") -> "Decided":
        """With what a person said of it."""
        row = one.row
        if row.start_frame is not None and self.overrides.get((row.source, row.start_frame)) == "rejected":
            return replace(one, row=replace(row, status="rejected", reason="review", duplicate_of=None))
        return one

    def _rows_of(self, state: SourceState) -> list["Decided"]:
        source, look = state.source, state.look
        why = source.refused
        if look is not None:
            why = look.refused
        elif state.given_up is not None:
            why = f"given up: {state.given_up}"
        if why is not None:
            content = None if look is None else look.content
            return [Decided(Row(source.name, "rejected", why, content))]
        return [self._decide(state, each) for each in state.clips]

    def _decide(self, state: SourceState, each: ClipState) -> "Decided":
        assert state.look is not None
        clip, forced = each.found.clip, self._forced(state, each)
        scores = counted(self.filters, each.measured, forced)
        refusal = None if forced else first_refusal(self.filters, scores)
        status: Status = "rejected"
        if refusal is not None:
            reason = refusal.name
        elif each.refused is not None:
            reason = f"unreadable: {each.refused}"
        elif each.encoded is None:
            reason = f"given up: {each.given_up or 'not measured'}"
        else:
            status, reason = "kept", None
        row = Row(
            state.source.name,
            status,
            reason,
            state.look.content,
            clip.start_frame,
            clip.end_frame,
            clip.fps,
            scores,
            crop=None if each.encoded is None or status != "kept" else tuple(each.encoded["crop"]),
            key=clip_key(state.source, clip.start_frame),
        )
        encoded = each.encoded if status == "kept" else None
        levels: list[Level] = [
            level for level in LEVELS if any(name in scores for name in names_at(self.filters, level))
        ]
        return Decided(row, each.folder, encoded, forced, tuple(levels))


@dataclass(frozen=True, slots=True)
class Decided:
    """A row, the job folder of its clip, and what is known of the encoded clip where it is kept."""

    row: Row
    folder: Path | None = None
    encoded: Mapping[str, Any] | None = None
    forced: bool = False
    levels: tuple[Level, ...] = ()
    """Those whose scores count."""


def clip_key(source: Source, start_frame: int) -> str:
    """The name of a clip in table and shards: webdataset ends it at the first dot."""
    stem = tidy(source.path.stem).replace(".", "_")[:READABLE]
    return f"{stem}-{source.identity[:8]}-{start_frame:07d}"
