"""What workers of a curation do: find the clips of a source; measure and encode a clip."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...datasets.curation.clip import Probe
from ...datasets.curation.shots import damaged_frames, find_clips
from ...stages.errors import PictureError, VideoError
from ...stages.media import video
from ...stages.media.sources import open_source
from ...stages.types import Resources, VideoInfo
from ..animate.tools import Tools
from ..job.job import open_job
from ..progress import stage
from .config import CurateConfig
from .decide import filters_of
from .measuring import PATIENCE_S, open_clip, scores_at
from .sources import Source
from .store import CLIPS, FoundClip, content_folder, digest_content, facts_of, keys_of


@dataclass(frozen=True, slots=True)
class LookWork:
    """A source whose clips are to be found."""

    root: Path
    source: Source
    config: CurateConfig
    key: str
    """What decides whether it is tried again after it was given up."""


@dataclass(frozen=True, slots=True)
class ClipWork:
    """A clip to be measured level by level as far as thresholds let it, and encoded where it passes.

    With `forced` they do not count.
    """

    root: Path
    content: str
    info: VideoInfo
    found: FoundClip
    config: CurateConfig
    key: str
    forced: bool


@dataclass
class CurateStage:
    """Does any work of a curation. Tells whether there was anything to do."""

    resources: Resources
    tools: Tools = field(init=False, repr=False)

    def setup(self) -> None:
        """Models are opened when a clip first needs one."""
        self.tools = Tools(self.resources)

    def __call__(self, work: LookWork | ClipWork) -> bool:
        if isinstance(work, LookWork):
            return look_at(work)
        with open_clip(work.root, work.content, work.info, work.found, work.config, self.tools) as clip:
            return clip.finish(work.forced)

    def close(self) -> None:
        self.tools.close()


def look_at(work: LookWork) -> bool:
    """Find the clips of a source."""
    with stage("reading", None):
        content = digest_content(work.root, work.source)
    with open_job(content_folder(work.root, content), PATIENCE_S) as job:

        def clips() -> Mapping[str, Any]:
            return clips_of(work.source, work.config)

        return job.run(CLIPS, keys_of(work.config).of(CLIPS, content), [], clips)


def clips_of(source: Source, config: CurateConfig) -> Mapping[str, Any]:
    """The facts of a source: what it is and its clips, or why it has none."""
    path, name = source.path, source.name

    def refused(kind: str, why: str) -> Mapping[str, Any]:
        return {"refused": f"{kind}: {why.replace(str(path), name)}"}

    try:
        info = video.probe(path)
        if info.width * info.height > config.max_pixels:
            return refused("too large", f"{info.width}x{info.height}, at most {config.max_pixels} pixels")
        missing = open_source(path, None, config.max_pixels).scan.missing
        if missing:
            return refused("cut off", f"{missing} frames are missing at the end")
        report = video.DecodeReport()
        clips = find_clips(
            path,
            info,
            longest=config.longest,
            find_dissolves=config.shots == "transnet",
            max_pixels=config.max_pixels,
            report=report,
        )
    except (VideoError, PictureError) as error:
        return refused("unreadable", str(error))
    if report.lost and (not clips or clips[-1].end_frame < info.num_frames):
        return refused("cut off", f"{report.lost} frames do not decode, those at the end among them")
    if not clips:
        return refused("no clip", "nothing but fades and black")
    probes = [Probe(info, clip, damaged_frames(clip, report)) for clip in clips]
    filters = filters_of(config)
    return facts_of(info, [FoundClip(probe.clip, scores_at(filters, "probe", probe)) for probe in probes])
