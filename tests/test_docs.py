"""README and docs are true: commands parse and run, what is named exists, YAML and Python blocks load."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
import yaml
from cyclopts import App, CycloptsError

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.pipeline.cli import app, main
from posedance.pipeline.config import BatchConfig, all_keys, unknown_keys
from posedance.pipeline.curate.config import CurateConfig
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import write_png
from posedance.stages.media.video import Clip, probe, read_frames

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README_LINES = 180
EXCUSED = "<!-- not run by the tests: "
OF_OTHERS = {"--dashboard-host"}
"""Options that a sentence names and that belong to another program: Ray."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it that excuses it from being run."""

    page: str
    language: str
    body: str
    note: str

    def __str__(self) -> str:
        return f"{self.page}: {self.body.splitlines()[0][:60]}"


def blocks(language: str) -> list[Block]:
    """The fenced blocks of one language in all pages."""
    pattern = re.compile(r"^(<!-- [^\n]*-->\n)?```(\w*)\n(.*?)^```$", re.S | re.M)
    found = [(page.name, match) for page in PAGES for match in pattern.finditer(page.read_text())]
    return [Block(page, match[2], match[3], match[1] or "") for page, match in found if match[2] == language]


def spans() -> list[tuple[str, str]]:
    """Page and text of each piece of code within a sentence."""
    prose = {page.name: re.sub(r"(?ms)^```.*?^```$", "", page.read_text()) for page in PAGES}
    return [
        (page, " ".join(span.split()))
        for page, text in prose.items()
        for span in re.findall(r"`([^`]+)`", text)
    ]


def arguments(line: str) -> list[str] | None:
    """The words behind the last `run.py` or `posedance` of a shell line; None where neither is called."""
    words = shlex.split(line, comments=True) if re.search(r"run\.py|posedance", line) else []
    places = [at for at, word in enumerate(words) if word in ("run.py", "posedance")]
    return words[places[-1] + 1 :] if places else None


def block_lines() -> Iterator[tuple[str, str]]:
    """Page and text of each line of the bash blocks, continued lines joined."""
    for block in blocks("bash"):
        for line in lines_of(block):
            yield block.page, line


def lines_of(block: Block) -> list[str]:
    """The lines of a bash block, continued ones joined."""
    return block.body.replace("\\\n", " ").splitlines()


def command_lines() -> list[tuple[str, str]]:
    """The lines of bash blocks that call posedance."""
    return [(page, line) for page, line in block_lines() if arguments(line) is not None]


def subcommand(words: list[str]) -> App:
    """The command that `words` begin with."""
    command = app
    for word in words:
        if word.startswith("-") or word not in command:
            break
        command = command[word]
    return command


def options(command: App) -> set[str]:
    """Every name by which an option of this command is given."""
    if command.default_command is None:
        return set()
    return {name for argument in command.assemble_argument_collection() for name in argument.names}


@cache
def every_option() -> frozenset[str]:
    """The options of all commands."""

    def below(command: App) -> set[str]:
        names = [name for name in command if not name.startswith("-")]
        return options(command).union(*(below(command[name]) for name in names))

    return frozenset(below(app))


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda text: text.strip()[:60])
def test_every_command_of_a_block_parses(page: str, line: str) -> None:
    """By the real command line, without being executed: an option that does not exist is an error."""
    words = arguments(line)
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{page}: {line.strip()}: {' '.join(str(error).split())}")


@pytest.mark.parametrize("line", ["run.py animate --weights.controlnet controlnet.bin", "run.py dance"])
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    words = arguments(line)
    with pytest.raises(CycloptsError):
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_every_command_and_option_in_a_sentence_exists() -> None:
    for page, span in spans():
        words = arguments(span) if "run.py " in span else None
        if words is not None:
            command = subcommand(words)
            assert command is not app, f"{page}: {span}"
            given = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert given <= options(command) | {"--help"}, f"{page}: {span}"
        elif span.startswith("--"):
            option = span.split()[0].partition("=")[0]
            assert option in every_option() | OF_OTHERS | {"--help"}, f"{page}: {span}"


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
    indented = [
        (page.name, line.strip())
        for page in PAGES
        for line in page.read_text().splitlines()
        if line[:4] == " " * 4
    ]
    named = [(page, text) for page, text in [*indented, *block_lines(), *spans()] if text.startswith("make ")]
    assert named
    for page, text in named:
        words = [word for word in shlex.split(text, comments=True)[1:] if "=" not in word]
        assert set(words) <= targets, f"{page}: {text}"


def test_every_file_that_is_named_or_linked_is_there() -> None:
    for page, span in spans():
        if re.fullmatch(r"(configs|pipeline|stages|datasets|docs|tests)/[\w./-]*", span):
            assert (ROOT / span).exists(), f"{page}: {span}"
    for path in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if not link.startswith("http"):
                name, _, anchor = link.partition("#")
                target = path.parent / name if name else path
                assert target.exists(), f"{path.name}: {link}"
                assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings are linked to, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_yaml_block_is_a_config(block: Block) -> None:
    model = CurateConfig if block.page == "curation.md" else BatchConfig
    assert list(unknown_keys(model, yaml.safe_load(block.body))) == []


@pytest.mark.parametrize("block", blocks("csv"), ids=str)
def test_every_csv_block_is_a_manifest(block: Block) -> None:
    overrides = {"source", "start_frame", "status"}
    columns = set(block.body.splitlines()[0].split(","))
    assert columns <= {"name", *all_keys(BatchConfig)} or columns == overrides


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_what_a_python_block_imports_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.body)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block}: {node.module} has no {alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def test_the_readme_opens_with_the_two_commands_and_the_makefile_has_them() -> None:
    top = (ROOT / "README.md").read_text()[:400]
    assert "    make demo\n    make test\n" in top
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.fixture
def checkout(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the checkout's top level beside a short dance and a picture, as a user has them."""
    for name in ("run.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(samples / "ref_03.jpeg", tmp_path / "character.png")
    shorten(samples / "driving_02.mp4", tmp_path / "dance.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = [each for each in blocks("bash") if not each.note.startswith(EXCUSED)]


@pytest.mark.slow
def test_the_first_block_runs_in_a_shell(checkout: Path) -> None:
    script = re.sub(r"(?m)^source .*\n", "", RUN[0].body).replace("python ", f"{sys.executable} ")
    done = subprocess.run(["bash", "-euc", script], cwd=checkout, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN[1:], ids=str)
def test_a_block_runs(block: Block, checkout: Path) -> None:
    """In this process: a start of each command would take longer than what it does here."""
    for line in lines_of(block):
        words = arguments(line)
        assert words is not None and re.match(r"python run\.py ", line), f"not run by this test: {line}"
        assert main(words) == 0, line


def shorten(source: Path, target: Path) -> None:
    """The first eighth of a second of a video."""
    info = probe(source)
    with VideoWriter(target, info.width, info.height, info.fps, preset="veryfast") as writer:
        for frame in read_frames(source, Clip(duration=Fraction(1, 8))):
            writer.write(frame)


FACES = ("posedance.stages", "posedance.pipeline")


def test_python_blocks_import_from_the_packages_and_not_from_their_rooms() -> None:
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("posedance"):
                assert node.module in FACES, block
                names = {alias.name for alias in node.names}
                assert names <= set(importlib.import_module(node.module).__all__), block


@pytest.mark.parametrize("face", FACES)
def test_every_name_of_a_package_is_there_and_importing_the_package_is_light(face: str) -> None:
    script = f"""
import sys
import {face} as package
heavy = {{"numpy", "cv2", "av", "torch", "pydantic", "ray"}} & set(sys.modules)
assert not heavy, heavy
from {face} import *
assert "torch" not in sys.modules
missing = [name for name in package.__all__ if name not in globals()]
assert not missing, missing
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other, with half a second of a drawn dance and a drawn character."""
    size, fps, motion = (288, 512), Fraction(16), make_motion(1, Fraction(16))
    with VideoWriter(tmp_path / "dance.mp4", *size, fps) as writer:
        for frame in range(8):
            writer.write(render(make_character(5), motion, frame, *size).image)
    write_png(tmp_path / "character.png", render(make_character(2), reference_pose(2), 0, *size).image)
    monkeypatch.chdir(tmp_path)
    page = "\n".join(block.body for block in blocks("python") if block.page == "python.md")
    names: dict[str, object] = {}
    exec(compile(page, "docs/python.md", "exec"), names)
    assert [
        path
        for path in ("one/result.mp4", "many/a/result.mp4", "many/b/result.mp4")
        if not Path(path).is_file()
    ] == []
    dance, frames = names["dance"], names["control_frames"]
    assert len(dance) == probe("parts.mp4").num_frames == len(frames) - 1 == 4
