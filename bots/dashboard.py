"""rq-dashboard, wrapped: what it gets wrong with RQ 2.12 repaired, and its doors locked.

Repaired: 500s for jobs with dependencies (Parallels/rq-dashboard#522) and for busy workers with
JSON jobs, wrong rows on page 2, stored XSS (#526), no CSRF check, no password.
"""

import argparse
import hmac
import logging
import re
import sys
from typing import Any

from core.settings import Dashboard, Storage, read
from core.supervisor import CannotStart, door

log = logging.getLogger("drawqueue")

SAFE = ("GET", "HEAD", "OPTIONS")


def create_app(redis_url: str, user: str, password: str) -> Any:
    """The dashboard as a WSGI application. Raises ValueError without a password."""
    if not password:
        raise ValueError("rq-dashboard needs a password: set DRAWQUEUE_DASHBOARD_PASSWORD.")
    from flask import Flask, Response, abort, jsonify, request
    from redis import Redis
    from redis.exceptions import RedisError
    from rq.exceptions import NoSuchJobError
    from rq_dashboard import default_settings, web

    _repair(web)
    app = Flask("rq_dashboard")
    app.config.from_object(default_settings)
    app.config["RQ_DASHBOARD_REDIS_URL"] = redis_url
    web.setup_rq_connection(app)
    _escape_templates(app)

    @app.route("/health")
    def health() -> Any:
        try:
            Redis.from_url(redis_url).ping()
        except RedisError:
            return jsonify(redis=False), 503
        return jsonify(redis=True)

    @app.before_request
    def lock() -> Any:
        if request.path == "/health":
            return None
        given = request.authorization
        known = bool(
            given
            and given.type == "basic"
            and hmac.compare_digest((given.username or "").encode(), user.encode())
            and hmac.compare_digest((given.password or "").encode(), password.encode())
        )
        if not known:
            return Response(
                "Name and password, please.", 401, {"WWW-Authenticate": 'Basic realm="Drawqueue"'}
            )
        if request.method in SAFE:
            # This door moves jobs on a GET, which any page elsewhere could make a browser send.
            return abort(405) if re.match(r"/requeue/", request.path) else None
        origin = request.headers.get("Origin") or request.headers.get("Referer") or ""
        if origin.partition("://")[2].partition("/")[0] != request.host:
            return abort(403)
        return None

    @app.errorhandler(NoSuchJobError)
    def gone(_error: Exception) -> Any:
        return "That job is gone: it was deleted, or its time was up.", 404

    @app.after_request
    def headers(answer: Any) -> Any:
        answer.headers["X-Frame-Options"] = "DENY"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "same-origin"
        return answer

    app.register_blueprint(web.blueprint)
    return app


def _escape_templates(app: Any) -> None:
    """Let the pages' own templates escape what they print, once: `<%-` where they say `<%=`."""
    from jinja2 import BaseLoader, Environment

    class Escaping(BaseLoader):
        def get_source(self, environment: Environment, template: str) -> Any:
            found = app.create_global_jinja_loader().get_source(environment, template)
            # Where they escape by themselves, they would do it a second time.
            once = re.sub(r"\$\('<div/>'\)\.text\((.+?)\)\.html\(\)", r"\1", found[0])
            return once.replace("<%=", "<%-"), found[1], found[2]

    app.jinja_env.loader = Escaping()


def _repair(web: Any) -> None:
    """Replace what rq-dashboard 0.9.0 gets wrong with RQ 2.12; done again, it changes nothing."""
    import rq
    from rq.job import Job
    from rq.registry import BaseRegistry
    from rq.serializers import JSONSerializer

    web.config.serializer = JSONSerializer
    if web.Job is not Job:
        return

    class BytesJob(Job):
        @property
        def dependency_ids(self) -> Any:
            return [
                name.encode() if isinstance(name, str) else name for name in super().dependency_ids
            ]

    class JSONWorker(rq.Worker):
        @classmethod
        def all(cls, *args: Any, **kwargs: Any) -> Any:
            return super().all(*args, **{"serializer": JSONSerializer, **kwargs})

    def rows(
        queue_name: str, registry_name: str, offset: int, per_page: int, order: str, connection: Any
    ) -> Any:
        """One page of a queue or registry: how many in all, and the jobs from `offset` on."""
        queue = rq.Queue(queue_name, serializer=JSONSerializer, connection=connection)
        if registry_name == "queued":
            names = queue.get_job_ids()
        else:
            registry: BaseRegistry = getattr(queue, f"{registry_name}_job_registry")
            # A reader that cleans up races the workers (shared facts: queued twice).
            names = registry.get_job_ids(cleanup=False)
        if order == "dsc":
            names = names[::-1]
        jobs = [queue.fetch_job(name) for name in names[offset : offset + per_page]]
        return len(names), [web.serialize_job(job) for job in jobs if job]

    stock = web.requeue_job
    web.Job = BytesJob
    web.Worker = JSONWorker
    web.get_queue_registry_jobs_count = rows
    web.requeue_job = lambda name, connection: stock(name, connection, serializer=JSONSerializer)


def main() -> int:
    """Serve the dashboard until stopped; `--check` only says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        return 0
    logging.basicConfig(level=logging.INFO, format="dashboard: %(message)s")
    import uvicorn
    from a2wsgi import WSGIMiddleware

    settings = read(Dashboard)
    try:
        app = create_app(read(Storage).redis, settings.user, settings.password.get_secret_value())
    except ValueError as error:
        log.error("%s", error)
        return 1
    try:
        listening = door(settings.host, settings.port, "DRAWQUEUE_DASHBOARD_PORT")
    except CannotStart as error:
        log.error("%s", error)
        return 1
    with listening:
        port = listening.getsockname()[1]
        log.info("watching the lines on http://%s:%d", settings.host, port)
        config = uvicorn.Config(WSGIMiddleware(app), interface="asgi3", log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
