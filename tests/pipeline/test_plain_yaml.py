"""YAML of strangers: bombs, keys that are lost, and what errors show of it."""

from pathlib import Path

import pytest
import yaml

from posedance.pipeline.cli import main
from posedance.pipeline.plain_yaml import load_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
"""430 million values in a few hundred bytes."""


@pytest.mark.parametrize("key", ["seed", "driving", "window", "unknown", "guidance_scale"])
@pytest.mark.parametrize("kind", ["bomb", "list", "long", "circle"])
def test_whatever_a_config_holds_an_error_is_a_short_line(
    key: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "bomb": f"{BOMB}{key}: *i",
        "list": f"{key}: [{','.join(['[1,2,3]'] * 20_000)}]",
        "long": f"{key}: [{'x' * 1_000_000}]",
        "circle": f"{key}: &a [*a]",
    }
    (tmp_path / "c.yaml").write_text(texts[kind])
    assert main(["animate", "--config", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 2000


def test_aliases_of_the_usual_kind_are_read() -> None:
    text = "all: &all {steps: 3, window: {size: 4}}\nrows:\n" + "  - {<<: *all, seed: 1}\n  - *all\n" * 5000
    read = load_yaml(text)
    assert len(read["rows"]) == 10_000 and read["rows"][0] == {"steps": 3, "window": {"size": 4}, "seed": 1}
    assert load_yaml("") is None and load_yaml("- 1") == [1]
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.mkdir [proof]")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "driving,seed,reference,seed\na.mp4,1,b.png,2\n"),
        ("m.csv", "driving,seed,reference, seed\na.mp4,1,b.png,2\n"),
        ("m.jsonl", '{"driving": "a.mp4", "seed": 1, "seed": 2}'),
        ("m.yaml", "- {driving: a.mp4, seed: 1, seed: 2}"),
        ("c.yaml", "seed: 1\nseed: 2"),
    ],
)
def test_the_same_column_twice_is_refused(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    option = "--config" if name == "c.yaml" else "--manifest"
    assert main(["batch", option, str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "seed is there twice" in said and said.count("\n") == 1
