"""What the page's script asks of the server: JSON, pictures and videos under /api and /files."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ...stages.errors import ConfigError, PosedanceError
from ...stages.threads import usable_cpus
from ..config import AnimateConfig, write_yaml
from ..job.masking import masked
from ..job.system_errors import told
from . import asking, batches, curations, jobs, plans, previews, uploads
from .site import Site

if TYPE_CHECKING:
    from fastapi import FastAPI


STATIC = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MIB = 2**20


def answering(site: Site) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator of routes: errors for users become {"error": line, "field": its place}, status 400."""
    from fastapi.responses import JSONResponse

    def refused(line: str) -> JSONResponse:
        line = masked(uploads.by_titles(site.folders, line))
        return JSONResponse({"error": line, "field": asking.field_of(line)}, 400)

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            except PosedanceError as error:
                return refused(str(error))
            except OSError as error:
                if error.errno is None:
                    raise
                return refused(told(error))

        return guarded

    return plain


def add_routes(app: "FastAPI", site: Site) -> None:
    """Add all routes of the page's script to an application."""
    add_shown(app, site)
    add_files(app, site)
    add_work(app, site)
    batches.add_routes(app, site, answering(site))
    curations.add_routes(app, site, answering(site))


def add_shown(app: "FastAPI", site: Site) -> None:
    """What is looked at: jobs, uploads, and what may be chosen."""
    from fastapi.responses import JSONResponse

    plain = answering(site)

    @app.get("/api/about")
    @plain
    def about() -> Any:
        models = [{"name": name, "why": why} for name, why in asking.models(site.defaults)]
        return {"models": models, "cpus": usable_cpus(), "largest": site.config.upload_megabytes * MIB}

    @app.get("/api/jobs")
    @plain
    def listed() -> Any:
        return JSONResponse({"queue": site.queue.shown(), "jobs": [asdict(card) for card in site.cards()]})

    @app.get("/api/job/{name:path}")
    @plain
    def one(name: str) -> Any:
        return jobs.detail(site.folders, name, site.card(name))

    @app.get("/api/uploads")
    @plain
    def gallery() -> Any:
        return [asdict(upload) for upload in uploads.gallery(site.folders)]

    @app.get("/api/settings/{name:path}")
    @plain
    def settings(name: str) -> Any:
        return asking.settings_of_job(site.folders, name)


def add_files(app: "FastAPI", site: Site) -> None:
    """Files: those of jobs that are shown, the page's own, and small pictures."""
    from fastapi import HTTPException
    from fastapi.responses import FileResponse

    def send(path: Path, kind: str | None = None, kept_s: int = 0) -> FileResponse:
        if path.is_symlink() or not path.is_file():
            raise HTTPException(404, "there is nothing here")
        headers = {"cache-control": f"private, max-age={kept_s}" if kept_s else "no-cache"}
        return FileResponse(path, media_type=kind, headers=headers)

    plain = answering(site)

    @app.get("/page/{name}")
    def static(name: str) -> FileResponse:
        path = STATIC / name
        if path.parent != STATIC or path.suffix not in KINDS:
            raise HTTPException(404, "there is nothing here")
        return send(path, KINDS[path.suffix])

    @app.api_route("/files/{job:path}/{name}", methods=["GET", "HEAD"])
    def of_job(job: str, name: str) -> FileResponse:
        try:
            return send(jobs.file_of(site.folders, job, name))
        except ConfigError:
            raise HTTPException(404, "there is nothing here") from None

    @app.get("/api/preview-file/{name}")
    def of_preview(name: str) -> FileResponse:
        return send(site.folders.previews / name, kept_s=3600)

    @app.get("/api/strip/{identity}")
    @plain
    def strip(identity: str) -> Any:
        _, file = uploads.find(site.folders, identity, "video")
        path = site.folders.previews / f"{identity}-strip.jpg"
        if not path.is_file():
            previews.strip(file, path)
        return send(path, "image/jpeg", 3600)

    @app.get("/api/upload-thumb/{identity}")
    @plain
    def upload_thumb(identity: str) -> Any:
        path = site.folders.thumbs / f"{identity}.jpg"
        if not path.is_file():
            known = {each.identity: each for each in uploads.gallery(site.folders)}
            if identity not in known:
                raise HTTPException(404, "there is nothing here")
            previews.thumb(site.folders.uploads / known[identity].file, path)
        return send(path, "image/jpeg", 3600)

    @app.get("/api/upload-file/{kind}/{identity}")
    @plain
    def upload_file(kind: str, identity: str) -> Any:
        _, file = uploads.find(site.folders, identity, "video" if kind == "video" else "picture")
        return send(file, kept_s=3600)

    @app.get("/api/thumb/{name:path}")
    @plain
    def thumb(name: str) -> Any:
        source = jobs.shown_of(site.folders, name)
        if source is None:
            raise HTTPException(404, "there is nothing here")
        path = site.folders.thumbs / f"{name.replace('/', '--')}.jpg"
        if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
            previews.thumb(source, path)
        return send(path, "image/jpeg")


def add_work(app: "FastAPI", site: Site) -> None:
    """What makes something: uploads, previews, plans, jobs and their queue."""
    from fastapi import Request

    largest = site.config.upload_megabytes * MIB

    plain = answering(site)

    @app.put("/api/upload/{kind}")
    async def upload(kind: str, request: Request) -> Any:
        from fastapi.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect

        name = unquote(request.headers.get("x-name", "unnamed"))
        field = "character" if kind == "picture" else "driving"
        try:
            if kind not in ("video", "picture", "settings"):
                raise ConfigError("a video, a picture or settings are wanted")
            file = await uploads.receive(site.folders, name, request.stream(), largest)
            if kind == "settings":
                return await run_in_threadpool(asking.settings_of_file, site.folders, file, name)
            found = await run_in_threadpool(uploads.keep, site.folders, kind, name, file)
        except PosedanceError as error:
            return refusal(str(error), field)
        except ClientDisconnect:
            return refusal("the upload was cut off: drop it in again", field)
        return asdict(found)

    @app.post("/api/example")
    @plain
    def example() -> Any:
        return [asdict(each) for each in uploads.example(site.folders)]

    @app.post("/api/preview/{what}")
    @plain
    def preview(what: str, asked: dict[str, Any]) -> Any:
        if what not in ("fit", "animatic"):
            raise ConfigError("there is no such preview")
        config = asking.asked_config(site.folders, site.defaults, asked, "preview")
        if config.driving is None or config.reference is None:
            raise ConfigError("--reference is missing: drop in a picture, or paint what the words say")
        found = site.previewer.ask(what, config)
        if found["state"] == "failed":
            line = masked(uploads.by_titles(site.folders, found["error"]))
            return {**found, "error": line, "field": asking.field_of(line)}
        return found

    @app.post("/api/paint")
    @plain
    def paint(asked: dict[str, Any]) -> Any:
        config = asking.asked_config(site.folders, site.defaults, {**asked, "character": None}, "painted")
        return asdict(plans.paint(site.folders, config))

    @app.post("/api/plan")
    @plain
    def plan(asked: dict[str, Any]) -> Any:
        config = asking.asked_config(site.folders, site.defaults, asked, "plan")
        return plans.plan(site.folders, config)

    @app.post("/api/run")
    @plain
    def run(asked: dict[str, Any]) -> Any:
        name = asking.new_name()
        config = asking.asked_config(site.folders, site.defaults, asked, name)
        return start(site, name, config, asked)

    @app.post("/api/resume/{name}")
    @plain
    def resume(name: str) -> Any:
        site.queue.again(name)
        return {"name": name}

    @app.post("/api/cancel/{name}")
    @plain
    def cancel(name: str) -> Any:
        return {"said": site.queue.cancel(name)}

    @app.post("/api/queue")
    @plain
    def queue(asked: dict[str, Any]) -> Any:
        if isinstance(asked.get("paused"), bool):
            site.queue.pause(asked["paused"])
        if isinstance(asked.get("jobs"), list):
            site.queue.order([str(name) for name in asked["jobs"]])
        return site.queue.shown()


def start(site: Site, name: str, config: AnimateConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Put a job into the queue, with what it can take over from the one that it is like."""
    from ..animate.animate import check_request

    check_request(config)
    like, reused = str(asked.get("like") or ""), []
    if like:
        reused = asking.take_over(site.folders, like, config)
    title = asking.title_for(site.folders, config)
    shown = {"title": title, "kind": "video", "like": like, "reused": reused}
    site.queue.add(name, ["animate", "--config", "CONFIG"], shown, write_yaml(config))
    return {"name": name, "reused": reused, "title": title}


def refusal(line: str, field: str) -> Any:
    """An error of a user as an answer."""
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": masked(line), "field": field}, 400)
