"""The example files for clusters: they parse, and what they call is there. Two nodes really start.

A batch is submitted to these two, from a process that is no part of the cluster.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import AnimateConfig, BatchConfig, all_keys, resolve
from posedance.pipeline.cost import cost

PROJECT = Path(__file__).resolve().parents[3]
FOLDER = PROJECT / "configs" / "cluster"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("path", [*SCRIPTS, FOLDER / "kuberay.yaml"], ids=lambda path: path.name)
def test_options_of_run_py_exist(path: Path) -> None:
    known = {f"--{key.replace('_', '-')}" for key in (*all_keys(BatchConfig), *all_keys(AnimateConfig))}
    known |= {"-o", "--config", "--workers", "--ray-address"}
    text = path.read_text().replace("\\\n", " ")
    called = re.findall(r"run\.py (?:batch|animate|\"\$@\")(.*)", text)
    assert called or path.name == "node.sh"
    for options in called:
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", options)) <= known, options


def test_options_of_ray_exist() -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    texts = [path.read_text() for path in SCRIPTS]
    used = {word for text in texts for line in re.findall(r"(?:ray start|node\.sh) (.*)", text)
            for word in re.findall(r"--[a-z][\w-]*", line)}  # fmt: skip
    assert {"--head", "--address", "--block", "--num-cpus"} <= used <= known


def test_a_shard_of_an_array_is_one_command(tmp_path: Path) -> None:
    """The array's script with SLURM's variables, and a python that only says what it was called with."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    told = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    done = subprocess.run(
        ["bash", FOLDER / "slurm_array.sbatch", "videos.csv", "s3://bucket/out"],
        env={**os.environ, **told, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "run.py batch --manifest videos.csv -o s3://bucket/out --shard 3/16\n"


@pytest.mark.parametrize("before", [None, 0o644], ids=["none", "readable"])
def test_the_token_is_for_its_owner_alone(tmp_path: Path, before: int | None) -> None:
    """With a ray that keeps its token as Ray does: by the umask."""
    fake, token = tmp_path / "ray", tmp_path / ".ray" / "auth_token"
    fake.write_text('#!/bin/sh\n[ "$1" = start ] || { mkdir -p ~/.ray; echo secret > ~/.ray/auth_token; }\n')
    fake.chmod(0o755)
    if before is not None:
        token.parent.mkdir()
        token.touch(before)
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", FOLDER / "node.sh", "head"], env=env, check=True, umask=0o022)
    assert token.stat().st_mode & 0o777 == 0o600


def test_the_ray_job_is_whole() -> None:
    (job,) = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for box in pod["containers"] for mount in box["volumeMounts"]} <= volumes
    (gpu,) = cluster["workerGroupSpecs"]
    config: Any = resolve(BatchConfig, BatchConfig(), FOLDER / "batch.yaml")
    assert "--config configs/cluster/batch.yaml" in job["spec"]["entrypoint"]
    assert config.pools.denoise.workers == gpu["maxReplicas"], "the autoscaler may bring what is asked for"
    locked = (FOLDER.parents[1] / "requirements.lock").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in locked
    assert (FOLDER / "Dockerfile").read_text().startswith("# An image")


def test_cost_counts_windows_and_workers_without_work() -> None:
    told = cost(Fraction(1), Fraction(15), 0.35, 0.0, 8, 25, 24, 6)
    assert "900 in 53 windows" in told
    assert "1325 predictions" in told and "463.7 GPU seconds" in told
    assert "8: efficiency 0.998" in told, "2650 halves in 332 rounds of 8"
    assert "time        58.1 s" in told
    assert f"GPU hours   {8 * 332 * 0.175 / 3600:.4f}" in told
    half = cost(Fraction(1, 2), Fraction(15), 0.35, 0.1, 1, 25, 24, 6)
    hours = (25 * 27 * 0.35 + 45) / 3600
    assert f"{hours:.4f}, which is {2 * hours:.4f} for each minute" in half
    assert "time        4.4 s" in cost(Fraction(1, 5), Fraction(15), 0.35, 0.0, 64, 25, 24, 6), (
        "halves, one by one"
    )


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """A function that submits a job to two nodes, started by node.sh, with a token of their own."""
    (tmp_path / "ray").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ray.scripts.scripts "$@"\n')
    (tmp_path / "ray").chmod(0o755)
    port, dashboard, client, *agents = free_ports(5)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {
        "PATH": path,
        "RAY_PORT": str(port),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_AUTH_MODE": "token",
    }
    store, address = ["--num-cpus", "1", "--object-store-memory", "80000000"], f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short, ExitStack() as stack:

        def start(*words: str) -> None:
            run = subprocess.Popen(
                ["bash", FOLDER / "node.sh", *words, *store],
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
            )  # fmt: skip
            stack.callback(run.wait, 60)
            stack.callback(run.terminate)

        ports = ["--dashboard-port", str(dashboard), "--ray-client-server-port", str(client)]
        agent = "--dashboard-agent-listen-port"
        start("head", *ports, agent, str(agents[0]), "--node-ip-address", "127.0.0.1", "--temp-dir", short)
        start("worker", address, agent, str(agents[1]))
        subprocess.run(["bash", FOLDER / "node.sh", "wait", address, "2"], env=env, check=True, timeout=120)

        def submit(*command: str) -> subprocess.CompletedProcess[str]:
            words = [
                "ray",
                "job",
                "submit",
                "--address",
                f"http://127.0.0.1:{dashboard}",
                "--working-dir",
                ".",
            ]
            return subprocess.run(
                [*words, "--", *command], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=200
            )

        yield submit


@pytest.mark.slow
def test_a_batch_is_submitted_to_two_nodes(
    inputs: Path,
    jobs: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manifest, output = tmp_path / "videos.csv", tmp_path / "out"
    row = f"{inputs}/dance1.npz,{inputs}/ref6.png"
    manifest.write_text(f"pose,reference\n{row}\n{inputs}/dance1.npz,{manifest}\n")
    options = {"--manifest": manifest, "-o": output, "--model": "tiny-random", "--steps": 2}
    words = [str(word) for option in options.items() for word in option]
    command = ["python", "run.py", "batch", *words, "--ray-address", "auto"]

    some = jobs(*command)
    assert some.returncode == 1 and "failed with exit code 3" in some.stdout + some.stderr
    assert json.loads((output / "summary.json").read_text())["videos"] == {"done": 1, "quarantined": 1}
    told = jobs("python", "run.py", "status", str(output))
    assert told.returncode == 0 and "1 done" in told.stdout, "a job that ends well is told so"

    caplog.set_level("INFO", "posedance")
    manifest.write_text(f"pose,reference\n{row}\n")
    again = BatchConfig(manifest=manifest, output=output, model="tiny-random", steps=2, executor="local")
    assert batch(again) == 0 and "1 videos: 1 done before, 0 to make" in caplog.text
    assert batch(again.model_copy(update={"output": tmp_path / "alone"})) == 0
    results = [tmp_path / name / "dance1--ref6" / "result.mp4" for name in ("out", "alone")]
    assert results[0].read_bytes() == results[1].read_bytes()
