"""Batches end to end on the tiny generator: what is shared, what survives a kill, what is given up."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import add_dance, add_picture, command, listed, small_batch, wait_for

from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.plan import find_items, plan_items, tasks_of
from posedance.pipeline.batch.status import events, states_of, status
from posedance.pipeline.config import AnimateConfig, PoolsConfig, WindowConfig, resolve
from posedance.pipeline.models import open_generator
from posedance.pipeline.progress import show_log
from posedance.pipeline.workers.machines import Machine
from posedance.pipeline.workers.resources import share_out
from posedance.stages.errors import ConfigError, OutputError
from posedance.stages.models import save_generator
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.types import Resources

FILES = ("result.mp4", "comparison.mp4", "contact_sheet.png", "poses.npz")


def command_of(manifest: Path, output: Path, executor: str) -> list[str]:
    """The same batch as a command, to be killed."""
    options = {
        "--manifest": manifest, "--output": output, "--model": "tiny-random", "--steps": 2,
        "--attempts": 2, "--executor": executor,
    }  # fmt: skip
    return command("batch", options)


def made(output: Path) -> dict[str, bytes]:
    """What users get, by path."""
    return {f"{folder.name}/{name}": (folder / name).read_bytes()
            for folder in output.glob("dance*") for name in FILES}  # fmt: skip


def made_folders(output: Path) -> list[str]:
    """The folders of the videos."""
    return [folder.name for folder in output.glob("dance*")]


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The batch, made in this process without disturbance."""
    output = tmp_path_factory.mktemp("whole")
    assert batch(small_batch(inputs / "manifest.csv", output)) == 0
    return output


def test_each_item_is_a_job_folder_and_what_items_share_is_made_once(whole: Path) -> None:
    assert len(made(whole)) == 4 * len(FILES)
    done = [event["task"] for event in events(whole) if event["event"] == "done"]
    assert sum(task.startswith("poses-") for task in done) == 2, "once for each dance, not for each video"
    assert sum(task.startswith("reference-") for task in done) == 2
    assert len(done) == len(set(done)) == 2 + 2 + 2 + 1 + 1 + 4 * 4
    assert [state.status for state in states_of(whole)] == ["done"] * 4
    told = status(whole)
    assert "4 done, 0 given up" in told and "not running" in told
    heading, *rows = (
        line.split() for line in told.splitlines() if not line.startswith(("4", "last")) and line
    )
    assert heading == ["stage", "workers", "queued", "running", "done", "failed", "per", "s"]
    assert {row[0]: row[1:6] for row in rows} == {
        "pose": ["0", "0", "0", "4", "0"],
        "draw": ["0", "0", "0", "6", "0"],
        "denoise": ["0", "0", "0", "10", "0"],
        "compare": ["0", "0", "0", "4", "0"],
    }
    assert listed(whole) == [[name, "done", "result.mp4"] for name in sorted(made_folders(whole))]
    assert not list(whole.rglob("*.tmp"))


def test_animate_takes_a_folder_of_a_batch_for_its_own(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "posedance")
    folder = whole / "dance1--ref6"
    animate(resolve(AnimateConfig, AnimateConfig(), folder / "config.yaml"))
    assert "is up to date" in caplog.text


def test_nothing_is_done_twice(inputs: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.mp4")}
    count = len(list(events(whole)))
    assert batch(small_batch(inputs / "manifest.csv", whole)) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.mp4")} == before
    assert len(list(events(whole))) == count


def test_limit_and_shards_add_up_to_the_whole(inputs: Path, whole: Path, tmp_path: Path) -> None:
    manifest = inputs / "manifest.csv"
    assert batch(small_batch(manifest, tmp_path, limit=1)) == 0
    assert len(list(tmp_path.glob("dance*/result.mp4"))) == 1
    for shard in ("0/2", "1/2"):
        assert batch(small_batch(manifest, tmp_path, shard=shard)) == 0
    assert made(tmp_path) == made(whole)
    with pytest.raises(ConfigError, match=r"0/2 to 1/2"):
        batch(small_batch(manifest, tmp_path, shard="2/2"))


def test_status_tells_of_what_was_asked_for_last(inputs: Path, tmp_path: Path) -> None:
    """A run of the whole, then shards of two kinds with another option, then a smaller whole."""

    def states() -> dict[str, str]:
        return {state.name: state.status for state in states_of(tmp_path)}

    manifest = inputs / "manifest.csv"
    assert batch(small_batch(manifest, tmp_path, limit=1)) == 0
    names = set(states())
    assert Counter(states().values()) == {"done": 1, "waiting": 3}
    assert batch(small_batch(manifest, tmp_path, shard="0/2", steps=1)) == 0
    first = Counter(states().values())
    assert set(states()) == names and first["done"] in (1, 2, 3), (
        "its own, and those of before if not its own"
    )
    for shard in ("1/3", "1/2"):
        assert batch(small_batch(manifest, tmp_path, shard=shard, steps=1)) == 0
    assert Counter(states().values()) == {"done": 4} and set(states()) == names
    assert "last run" not in status(tmp_path) and "shard 1/2" in status(tmp_path)
    assert [state for _, state, _ in listed(tmp_path)] == ["done"] * 4
    (tmp_path / "one.csv").write_text(f"pose,reference\n{inputs}/dance1.npz,{inputs}/ref6.png\n")
    assert batch(small_batch(tmp_path / "one.csv", tmp_path, steps=1)) == 0
    assert states() == {"dance1--ref6": "done"}


def test_a_finished_video_needs_its_results_only(inputs: Path, tmp_path: Path) -> None:
    """Also where one of them is lost, and where an earlier run kept the rest."""
    manifest = inputs / "one.csv"
    manifest.write_text("pose,reference\ndance1.npz,ref6.png\n")
    folder = tmp_path / "dance1--ref6"
    large = [folder / ".work" / name for name in ("latents.safetensors", "control.zip")]
    assert batch(small_batch(manifest, tmp_path, steps=1, keep="all")) == 0
    assert all(path.exists() for path in large)

    def made_by(**options: Any) -> set[str]:
        seen = len(list(events(tmp_path)))
        assert batch(small_batch(manifest, tmp_path, steps=1, **options)) == 0
        done = [event["task"] for event in list(events(tmp_path))[seen:] if event["event"] == "done"]
        return {task.split("/")[-1].split("-")[0] for task in done}

    assert made_by() == set() and not any(path.exists() for path in large)
    result = (folder / "result.mp4").read_bytes()
    (folder / "comparison.mp4").unlink()
    assert made_by() == {"control", "comparison"}, "nothing is denoised for it"
    assert made_by() == set() and not any(path.exists() for path in large)
    (folder / "result.mp4").unlink()
    assert made_by() == {"latents", "control", "result"}
    assert (folder / "result.mp4").read_bytes() == result
    assert not any(path.exists() for path in large)


def test_damage_that_neither_size_nor_time_shows_is_found_by_verify(inputs: Path, tmp_path: Path) -> None:
    manifest = inputs / "one.csv"
    manifest.write_text("pose,reference\ndance1.npz,ref6.png\n")
    assert batch(small_batch(manifest, tmp_path, steps=1)) == 0
    result = tmp_path / "dance1--ref6" / "result.mp4"
    (shared,) = (tmp_path / ".work" / "shared").glob("reference-*/.work/reference.npz")
    whole = {path: path.read_bytes() for path in (result, shared)}
    for path, content in whole.items():
        time = path.stat().st_mtime_ns
        path.write_bytes(bytes(len(content)))
        os.utime(path, ns=(time, time))
    assert batch(small_batch(manifest, tmp_path, steps=1)) == 0
    assert result.read_bytes() != whole[result]
    assert batch(small_batch(manifest, tmp_path, steps=1, verify=True)) == 0
    assert result.read_bytes() == whole[result]
    assert shared.read_bytes() == whole[shared]


def test_a_step_is_forced_with_what_follows_from_it(inputs: Path, whole: Path) -> None:
    before, seen = made(whole), len(list(events(whole)))
    assert batch(small_batch(inputs / "manifest.csv", whole, force="poses", limit=1)) == 0
    ended = [event for event in list(events(whole))[seen:] if event["event"] in ("done", "skip")]
    again = {event["task"].split("/")[-1].split("-")[0] for event in ended if event["event"] == "done"}
    assert again == {"poses", "control", "latents", "result", "comparison"}
    assert {event["task"].split("-")[0] for event in ended if event["event"] == "skip"} == {
        "size",
        "settings",
        "reference",
        "placement",
    }
    assert len(ended) == 9 and made(whole) == before
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["skipped"] == {"videos": 0, "steps": 4}
    assert set(summary["steps"]) == again and all(row["seconds"] > 0 for row in summary["steps"].values())


def test_a_bad_picture_is_given_up_at_once_and_tried_again_when_it_changes(
    tmp_path: Path,
) -> None:
    add_dance(tmp_path, "dance1", 1)
    add_picture(tmp_path, "good", 6)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    manifest = tmp_path / "m.csv"
    manifest.write_text("pose,reference\ndance1.npz,good.png\ndance1.npz,bad.png\n")
    output = tmp_path / "out"
    assert batch(small_batch(manifest, output)) == 3
    states = {state.name: state for state in states_of(output)}
    assert states["dance1--good"].status == "done"
    bad = states["dance1--bad"]
    assert (bad.status, bad.attempts) == ("quarantined", 1) and "bad.png" in bad.error
    assert bad.stage.startswith("reference-") and "dance1--bad" in status(output)

    def begun() -> int:
        return sum(event["event"] == "start" for event in events(output))

    before = begun()
    assert batch(small_batch(manifest, output)) == 3
    assert begun() == before, "what was given up is left alone"
    assert batch(small_batch(manifest, output, retry_quarantined=True)) == 3
    assert begun() > before
    add_picture(tmp_path, "bad", 7)
    assert batch(small_batch(manifest, output)) == 0, "its input changed"


def test_a_damaged_file_of_the_shared_store_is_made_again(inputs: Path, tmp_path: Path, whole: Path) -> None:
    manifest = inputs / "manifest.csv"
    assert batch(small_batch(manifest, tmp_path, limit=1)) == 0
    shared = tmp_path / ".work" / "shared"
    torn = list(shared.rglob("*.npz"))
    assert len(torn) >= 2
    for path in torn:
        path.write_bytes(b"torn")
    (record,) = shared.glob("size-*/.work/records/size.json")
    record.write_text('{"key": ')
    assert batch(small_batch(manifest, tmp_path)) == 0
    assert made(tmp_path) == made(whole)


def test_a_second_driver_is_refused(inputs: Path, tmp_path: Path) -> None:
    words = command_of(inputs / "manifest.csv", tmp_path, "local")
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(first, tmp_path / "events.jsonl")
        with pytest.raises(OutputError, match=f"in use by process {first.pid}"):
            batch(small_batch(inputs / "manifest.csv", tmp_path))
        assert "; running" in status(tmp_path)
    finally:
        first.kill()
        first.wait()


@pytest.mark.slow
def test_on_ray_the_same_bytes_also_where_one_video_is_decoded_while_the_next_is_denoised(
    inputs: Path, whole: Path, tmp_path: Path, ray_here: Any
) -> None:
    pools = PoolsConfig.model_validate({"decode": {"workers": 1, "cpus": 0.25}})
    assert batch(small_batch(inputs / "manifest.csv", tmp_path, executor="ray", pools=pools)) == 0
    assert made(tmp_path) == made(whole)
    assert not list((tmp_path / ".work" / "workers" / "all").iterdir())
    done = [event for event in events(tmp_path) if event["event"] == "done"]
    assert {e["stage"] for e in done if e["task"].endswith("/result")} == {"decode"}
    times = {e["task"]: (e["time"] - e["seconds"], e["time"]) for e in done if e["item"]}
    items = {e["item"] for e in done if e["item"]}

    def together(decoded: str, denoised: str) -> bool:
        """Whether the workers themselves were at it at the same time."""
        (a, b), (c, d) = times[f"{decoded}/result"], times[f"{denoised}/latents"]
        return max(a, c) < min(b, d)

    assert any(together(one, other) for one in items for other in items - {one})


GIB = 1 << 30


def test_the_plan_decodes_apart_where_the_stage_is_there(inputs: Path, tmp_path: Path) -> None:
    asked = small_batch(inputs / "manifest.csv", tmp_path)
    items, _ = find_items(asked)
    keys = plan_items(tmp_path, items, asked).keys
    roomy = tasks_of(tmp_path, items, keys, share_out([Machine(16, 1, 80 * GIB)], PoolsConfig()))
    small = tasks_of(tmp_path, items, keys, share_out([Machine(2)], PoolsConfig()))
    stages = {task.name: task.stage for task in roomy}
    for item in items:
        assert stages[f"{item.name}/latents"] == "denoise" and stages[f"{item.name}/result"] == "decode"
    assert {task.stage for task in small} == {"pose", "draw", "denoise", "compare"}
    for task in roomy:  # of other videos, so no denoising waits for a decoding
        needs = {stages[need] for need in task.needs}
        assert task.stage != "denoise" or "decode" not in needs


@pytest.mark.parametrize("kind", ["generator", "decoder"])
def test_a_video_with_another_limit_or_precision_does_not_get_the_last_one_s(kind: str) -> None:
    plain = AnimateConfig(model="tiny-random")
    open_model = getattr(Tools(Resources(1)), kind)
    first = open_model(plain)
    assert open_model(plain) is first
    assert open_model(plain.model_copy(update={"memory_limit": 2.0})).memory_limit == 2 << 30
    assert open_model(plain.model_copy(update={"compile": True})).compile
    assert open_model(plain).vae.dtype == torch.float32
    assert open_model(plain.model_copy(update={"precision": "fp16"})).vae.dtype == torch.float16


def test_a_window_that_the_model_does_not_know_is_told_once(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_log()
    manifest = inputs / "two.csv"
    manifest.write_text("pose,reference\ndance1.npz,ref6.png\ndance1.npz,ref7.png\n")
    job = small_batch(manifest, tmp_path / "out", steps=1, window=WindowConfig(size=6))
    assert batch(job) == 0
    assert capsys.readouterr().err.count("windows of 6 frames: tiny-random was trained with 8") == 1


def test_each_row_keeps_its_own_seed_and_shares_the_rest(inputs: Path, tmp_path: Path) -> None:
    manifest = inputs / "seeds.csv"
    manifest.write_text("name,pose,reference,seed\na,dance1.npz,ref6.png,3\nb,dance1.npz,ref6.png,4\n")
    output = tmp_path / "out"
    assert batch(small_batch(manifest, output, steps=1, keep="all")) == 0
    done = Counter(event["task"].split("-")[0] for event in events(output) if event["event"] == "done")
    assert done["settings"] == done["size"] == 1
    for name, seed in (("a", 3), ("b", 4)):
        alone = AnimateConfig(
            pose=inputs / "dance1.npz", reference=inputs / "ref6.png", model="tiny-random", steps=1,
            seed=seed, output=tmp_path / name,
        )  # fmt: skip
        animate(alone)
        latents = ".work/latents.safetensors"
        assert (output / name / latents).read_bytes() == (tmp_path / name / latents).read_bytes()
    assert (output / "a/result.mp4").read_bytes() != (output / "b/result.mp4").read_bytes()


def test_rows_that_alternate_between_two_models_open_each_of_them_twice_at_most(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(config: AnimateConfig, gpu_part: float = 1.0) -> Any:
        opened.append(config.model)
        return open_generator(config, gpu_part)

    monkeypatch.setattr("posedance.pipeline.animate.tools.open_generator", counted)
    save_generator(tiny_random(), tmp_path / "other")
    models = ["tiny-random", tmp_path / "other"]
    rows = [f"{models[i % 2]},dance1.npz,ref6.png,{i}" for i in range(4)]
    (inputs / "models.csv").write_text("\n".join(["model,pose,reference,seed", *rows]))
    assert batch(small_batch(inputs / "models.csv", tmp_path / "out", steps=1)) == 0
    assert len(states_of(tmp_path / "out")) == 4
    assert max(Counter(opened).values()) <= 2


def test_a_model_that_cannot_be_opened_costs_its_own_videos_alone(inputs: Path, tmp_path: Path) -> None:
    (inputs / "bad.safetensors").write_bytes(b"no weights")
    manifest = inputs / "loras.csv"
    rows = [
        "name,pose,reference,lora",
        "bad,dance1.npz,ref6.png,bad.safetensors",
        "good,dance1.npz,ref6.png,",
    ]
    manifest.write_text("\n".join(rows))
    assert batch(small_batch(manifest, tmp_path / "out", steps=1)) == 3
    states = {state.name: state for state in states_of(tmp_path / "out")}
    assert states["good"].status == "done"
    assert states["bad"].status == "quarantined" and "bad.safetensors" in states["bad"].error
