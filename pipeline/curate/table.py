"""clips.parquet: one row for every clip of every source, and for every source that gave none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...stages.atomic import atomic_path
from .decide import Scores, Status

TABLE = "clips.parquet"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a clip; of a source without one, frames, scores and key are missing.

    `start_frame` to `end_frame` (exclusive) are the source's own frames, at `fps`. `key` names the clip, in
    shards too; `shard` the tar it is in. `crop` is x0, y0, x1, y1 in pixels of the source.
    """

    source: str
    status: Status
    reason: str | None = None
    source_sha256: str | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    fps: Fraction | None = None
    scores: Scores = field(default_factory=dict)
    duplicate_of: str | None = None
    crop: tuple[int, int, int, int] | None = None
    shard: str | None = None
    key: str | None = None


def columns_of(rows: Sequence[Row], filters: Sequence[str]) -> dict[str, list[Any]]:
    """The table by columns, a `score_` for each of the filters that ran."""

    def seconds(row: Row, frame: int | None) -> float | None:
        return None if frame is None or row.fps is None else float(frame / row.fps)

    columns: dict[str, list[Any]] = {
        "source": [row.source for row in rows],
        "source_sha256": [row.source_sha256 for row in rows],
        "start_frame": [row.start_frame for row in rows],
        "end_frame": [row.end_frame for row in rows],
        "start_s": [seconds(row, row.start_frame) for row in rows],
        "end_s": [seconds(row, row.end_frame) for row in rows],
        "status": [row.status for row in rows],
        "reason": [row.reason for row in rows],
    }
    columns |= {f"score_{name}": [row.scores.get(name) for row in rows] for name in filters}
    columns["duplicate_of"] = [row.duplicate_of for row in rows]
    for i, name in enumerate(("crop_x0", "crop_y0", "crop_x1", "crop_y1")):
        columns[name] = [None if row.crop is None else row.crop[i] for row in rows]
    columns["shard"] = [row.shard for row in rows]
    columns["key"] = [row.key for row in rows]
    return columns


def write_table(path: Path, rows: Sequence[Row], filters: Sequence[str]) -> None:
    """Write the table, whole or not at all; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = columns_of(rows, filters)

    def kind(name: str) -> pa.DataType:
        if name.endswith("_frame"):
            return pa.int64()
        if name.startswith("crop_"):
            return pa.int32()
        if name.startswith("score_") or name in ("start_s", "end_s"):
            given = [value for value in columns[name] if value is not None]
            return pa.bool_() if given and all(isinstance(value, bool) for value in given) else pa.float64()
        return pa.string()

    table = pa.table({name: pa.array(values, kind(name)) for name, values in columns.items()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table as mappings by column."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
