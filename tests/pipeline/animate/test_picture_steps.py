"""A character that is painted, and a result that is enlarged: as steps of a video, and in a batch."""

import json
from pathlib import Path

import pytest
from helpers import add_dance, add_picture, made_at, small_batch

from posedance.pipeline.animate.animate import animate, plan
from posedance.pipeline.animate.recorded import read_settings
from posedance.pipeline.animate.replay import replay
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.dry_run import dry_run
from posedance.pipeline.batch.manifest import make_items
from posedance.pipeline.batch.status import report
from posedance.pipeline.character import painting
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.upscale import enlarge as enlarging
from posedance.pipeline.upscale.estimate import about_enlarging
from posedance.pipeline.upscale.options import UpscaleOptions
from posedance.stages.errors import ConfigError
from posedance.stages.media.picture import read_picture
from posedance.stages.media.video import probe

QUICK = {"base": "tiny-sd15", "steps": 1, "canvas": 96, "seeds": 2}
LARGER = {"steps": 2, "tile": 128, "overlap": 16, "neighbours": 1}


@pytest.fixture(scope="module")
def dance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dance")
    add_dance(folder, "dance", 1)
    add_picture(folder, "ref", 6)
    return folder


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is painted: the seeds of characters, and `frame` for each frame."""
    seen: list[str] = []
    one, frame = painting.paint_one, enlarging.enlarge
    monkeypatch.setattr(painting, "paint_one", lambda *a: seen.append(f"seed {a[4]}") or one(*a))
    monkeypatch.setattr(enlarging, "enlarge", lambda *a: seen.append("frame") or frame(*a))
    return seen


def config(dance: Path, output: Path, **changes: object) -> AnimateConfig:
    """A video whose character is painted. Random weights paint nobody, so none is looked for."""
    options = {"pose": dance / "dance.npz", "model": "tiny-random", "steps": 1, "align": "none"}
    who = {"character_prompt": "a dancer in red", "character": QUICK}
    return AnimateConfig.model_validate({**options, **who, "output": output, **changes})


def test_a_character_is_painted_once_and_kept_with_its_record(
    dance: Path, tmp_path: Path, painted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "posedance")
    names = [path.name for path in animate(config(dance, tmp_path / "out"))]
    assert names[0] == "result.mp4" and names[-3:] == ["reference.png", "sheet.png", "character.json"]
    assert painted == ["seed 0", "seed 1"]
    record = json.loads((tmp_path / "out/character.json").read_text())
    assert record["prompt"] == "a dancer in red" and record["weights"]["base"] == ["tiny-sd15"]
    assert list(record["pose_errors"]) == ["0", "1"]
    assert read_picture(tmp_path / "out/reference.png").shape == (96, 64, 3), "the size of the video"
    animate(config(dance, tmp_path / "out"))
    assert painted == ["seed 0", "seed 1"] and "is up to date" in caplog.text
    animate(config(dance, tmp_path / "out", character={**QUICK, "seeds": 3}))
    assert painted == ["seed 0", "seed 1", "seed 2"]


def test_a_result_is_enlarged_and_a_stop_costs_one_frame(
    dance: Path, tmp_path: Path, painted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**changes: object) -> AnimateConfig:
        own = {"reference": dance / "ref.png", "character_prompt": None, "upscale": 2, "upscaler": LARGER}
        return config(dance, tmp_path / "big.mp4", **{**own, "character": {}, **changes})

    assert "64x96, then enlarged to 128x192" in plan(asked())
    size = 576, 1024
    assert "23 frames, 252 tiles each, takes about 48 minutes" in about_enlarging(
        UpscaleOptions(), 2, size, 23, "cpu"
    )
    assert not about_enlarging(UpscaleOptions(method="lanczos"), 2, size, 23, "cpu")
    made = enlarging.enlarge

    def stops(*given: object) -> object:
        if len(painted) == 2:
            raise KeyboardInterrupt
        return made(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(enlarging, "enlarge", stops)
    with pytest.raises(KeyboardInterrupt):
        animate(asked())
    monkeypatch.setattr(enlarging, "enlarge", made)
    assert len(list((tmp_path / "big.job/.work/painted").glob("*/*.png"))) == 2
    paths = animate(asked())
    assert painted == ["frame"] * 4, "two before the stop, two after"
    assert [path.name for path in paths[:3]] == ["big.mp4", "upscaled.mp4", "result.mp4"]
    info = probe(tmp_path / "big.mp4")
    assert (info.width, info.height, info.num_frames) == (128, 192, 4)
    assert not (tmp_path / "big.job/.work/painted").exists()
    assert read_settings(tmp_path / "big.mp4").steps == 1, "it carries the settings of the result"
    assert read_settings(tmp_path / "big.mp4").upscale == 2
    assert read_settings(tmp_path / "big.job/result.mp4").upscale is None
    before = made_at(tmp_path / "big.job")
    animate(asked(upscaler={**LARGER, "method": "lanczos"}))
    after = made_at(tmp_path / "big.job")
    assert {step for step in after if after[step] != before[step]} == {"upscale", "comparison"}
    assert replay(tmp_path / "big.job", "upscale") == [tmp_path / "big.job/upscaled.mp4"]
    with pytest.raises(ConfigError, match="step character is not part of this video"):
        replay(tmp_path / "big.job", "character")
    plain = asked(upscale=None, upscaler={}).model_copy(update={"output": tmp_path / "big.job"})
    animate(plain)
    assert (tmp_path / "big.job/upscaled.mp4").exists(), "it still is the result, enlarged"
    animate(plain.model_copy(update={"seed": 5}))
    assert (tmp_path / "big.job/result.mp4").exists()
    assert not (tmp_path / "big.job/upscaled.mp4").exists(), "it would show another result"
    assert not (tmp_path / "big.job/.work/records/upscale.json").exists()


def test_a_batch_paints_a_shared_character_once_and_enlarges_what_a_row_asks_for(
    dance: Path, tmp_path: Path, painted: list[str]
) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "name,pose,character_prompt,reference,seed,upscale\n"
        f"a,{dance}/dance.npz,a dancer in red,,1,\n"
        f"b,{dance}/dance.npz,a dancer in red,,2,2\n"
        f"c,{dance}/dance.npz,,{dance}/ref.png,1,\n"
    )
    wanted = small_batch(manifest, tmp_path / "out", align="none", steps=1, character=QUICK, upscaler=LARGER)
    told = {line.split()[0]: line.split()[1:] for line in dry_run(wanted).splitlines()}
    assert told["character"] == ["1", "0"] and told["upscale"] == ["1", "0"] and told["latents"] == ["3", "0"]
    assert batch(wanted) == 0
    assert sorted(painted) == ["frame"] * 4 + ["seed 0", "seed 1"]
    files = {name: {path.name for path in (tmp_path / "out" / name).iterdir()} for name in "abc"}
    assert {"reference.png", "character.json"} <= files["a"] & files["b"] and "upscaled.mp4" in files["b"]
    assert not files["c"] & {"reference.png", "upscaled.mp4"} and "upscaled.mp4" not in files["a"]
    assert report(tmp_path / "out")["videos"]["done"] == 3
    assert batch(wanted) == 0 and len(painted) == 6
    again = wanted.model_copy(update={"force": "upscale"})
    assert batch(again) == 0 and painted[6:] == ["frame"] * 4, "only the video that has that step"


def test_a_row_that_names_its_character_does_without_that_of_the_command_line(dance: Path) -> None:
    rows = [
        {"pose": "dance.npz", "character_prompt": "in red", "name": "a"},
        {"pose": "dance.npz", "name": "b"},
    ]
    base = AnimateConfig(reference=dance / "ref.png")
    first, second = (item.config for item in make_items(rows, base, "rows", dance))
    assert (first.reference, first.character_prompt) == (None, "in red")
    assert (second.reference, second.character_prompt) == (dance / "ref.png", None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"reference": Path("x.png")}, "--reference and --character-prompt are both given"),
        ({"character_prompt": ""}, "--character-prompt is empty"),
        ({"character_prompt": None, "reference": Path("x.png")}, "without --character-prompt"),
        ({"upscaler": LARGER}, "without --upscale"),
        ({"upscale": 2, "encode": {"bit_depth": 10}}, "paints 8 bits"),
    ],
)
def test_what_contradicts_itself_is_told(
    dance: Path, tmp_path: Path, changes: dict[str, object], line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        animate(config(dance, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()
