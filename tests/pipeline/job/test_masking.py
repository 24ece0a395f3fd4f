"""Credentials in URLs are shown nowhere."""

from pathlib import Path

import pytest

from posedance.pipeline.batch.manifest import make_items
from posedance.pipeline.cli import main
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.job.masking import masked
from posedance.pipeline.job.publish import own_config
from posedance.pipeline.job.storage import localize
from posedance.pipeline.workers.executor import attempt
from posedance.stages.errors import PosedanceError


@pytest.mark.parametrize(
    "url",
    [
        "https://anna:S3CRET@host/a.mp4",
        "https:/anna:S3CRET@host/a.mp4",
        "s3://S3CRET:S3CRET@bucket/a.mp4",
        "s3://AKIA:x/S3CRET+/y@bucket/a.mp4",
        "https://host/a.mp4#access_token=S3CRET",
        "https://b.s3.amazonaws.com/a.mp4?X-Amz-Date=1&X-Amz-Credential=S3CRET&X-Amz-Signature=S3CRET",
        "https://storage.googleapis.com/b/a.mp4?X-Goog-Signature=S3CRET&X-Goog-Credential=S3CRET%2Fauto",
        "https://acc.blob.core.windows.net/b/a.mp4?sv=2022&sig=S3CRET%3D&se=2030",
        "https://host/a.mp4?token=S3CRET",
        "https://host/a.mp4?v=1;access_token=S3CRET",
        "https://host/a.mp4?AWSAccessKeyId=S3CRET&Expires=1",
    ],
)
def test_credentials_are_masked_and_the_rest_stays(url: str) -> None:
    shown = masked(f"cannot reach {url}: check it, and {url} again")
    assert "S3CRET" not in shown and "***" in shown
    assert "a.mp4" in shown and shown.startswith("cannot reach ") and shown.endswith(" again")


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b/c.mp4?start=3&fps=24",
        "http://host:80/a@b/c.mp4",
        "me@host.org",
        "a.mp4: 3 of 4 frames",
        "s3://bucket/key=1/a",
    ],
)
def test_what_is_no_credential_is_left(text: str) -> None:
    assert masked(text) == text


def test_errors_of_stores_and_commands_hide_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = Path("http://anna:S3CRET@127.0.0.1:9/a.mp4?sig=S3CRET")
    with pytest.raises(PosedanceError, match=r"http://\*\*\*@127\.0\.0\.1:9/a\.mp4\?sig=\*\*\*") as caught:
        localize(url)
    assert "S3CRET" not in str(caught.value)
    words = ["--driving", str(url), "--reference", "http://x:S3CRET@127.0.0.1:9/b.png", "-o", str(tmp_path)]
    assert main(["animate", *words]) == 2
    assert "S3CRET" not in capsys.readouterr().err


def test_what_a_batch_keeps_of_a_failure_hides_them() -> None:
    def fail() -> None:
        raise RuntimeError("no https://host/a.mp4?sig=S3CRET")

    outcome = attempt(fail)
    assert "sig=***" in outcome.error and "S3CRET" not in outcome.error + outcome.trace


def test_the_published_config_hides_them() -> None:
    config = {
        "driving": "https:/anna:S3CRET@host/a.mp4?X-Amz-Signature=S3CRET",
        "weights": {"base": "https://x:S3CRET@h/b"},
    }
    text = own_config(config, "s3://S3CRET:S3CRET@bucket/out")
    assert "S3CRET" not in text and "driving: https://***@host/a.mp4?X-Amz-Signature=***" in text


def test_names_of_results_hold_no_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedance.pipeline.batch.manifest.is_there", lambda path: True)
    query = "?X-Amz-Signature=S3CRET"
    row = {"driving": f"https://h/walk.mp4{query}", "reference": f"https://h/anna.png{query}"}
    (item,) = make_items([row], AnimateConfig(output=tmp_path), "m.csv", tmp_path)
    assert item.name == "walk--anna"
