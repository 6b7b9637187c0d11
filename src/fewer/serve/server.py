"""The page's HTTP server: one page, its style and script, samples as JSON, and plans that are uploaded."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import TypeAdapter

from fewer.errors import InputError, reason
from fewer.files import LARGEST_JSON, checked
from fewer.serve.guard import fault
from fewer.serve.page import page
from fewer.serve.studio import Request, Studio

LOOPBACK = "127.0.0.1"
FILES = {"/page.css": ("serve", "text/css"), "/page.js": ("serve", "text/javascript"),
         "/report.css": ("report", "text/css"), "/report.js": ("report", "text/javascript")}  # fmt: skip
POLICY = (
    "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
}  # fmt: skip
_adapter = TypeAdapter(Request)


class PageServer(ThreadingHTTPServer):
    """Serves a studio's page at `host`:`port` (0: any free port) until `shutdown`; raises InputError where it cannot be had."""

    daemon_threads = True

    def __init__(self, studio: Studio, host: str = LOOPBACK, port: int = 0) -> None:
        self.studio, self.host = studio, host
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot listen at {host}, port {port}: {said}; --port 0 takes one that is free"
            ) from error

    def server_bind(self) -> None:
        """As the base class, without its look-up of the host's full name, which may take long."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a client may be silent

    @cached_property
    def studio(self) -> Studio:
        """What is shown."""
        return self.server.studio

    def do_GET(self) -> None:
        """The page, its files, and samples."""
        path, query = urlsplit(self.path)[2:4]
        if path == "/":
            self._answer(lambda: ("text/html", page(self.studio).encode()), page=True)
        elif path in FILES:
            package, kind = FILES[path]
            self._answer(lambda: (kind, resources.files(f"fewer.{package}").joinpath(path[1:]).read_bytes()))
        elif path == "/samples":
            self._answer(lambda: _json(self.studio.compare(_request(query))))
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page\n")

    def do_POST(self) -> None:
        """A plan that is uploaded."""
        self.close_connection = True  # what follows a body that was not read is no request
        length, kind = self.headers.get("Content-Length", ""), self.headers.get("Content-Type", "")
        if urlsplit(self.path).path != "/plans":
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page\n")
        elif kind != "application/json":
            self._send(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "text/plain", b"expected a plan: application/json\n")
        elif not (length.isascii() and length.isdigit()):
            self._send(HTTPStatus.LENGTH_REQUIRED, "text/plain", b"expected a Content-Length\n")
        elif len(length) > 12 or int(length) > LARGEST_JSON:
            answer = f"the plan is larger than {LARGEST_JSON >> 20} MiB\n".encode()
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", answer)
        else:
            self._answer(lambda: _json({"plan": self.studio.add(self.rfile.read(int(length)))}))

    def _answer(self, make: Callable[[], tuple[str, bytes]], page: bool = False) -> None:
        """Send what `make` returns, or what is wrong in one line."""
        status, kind = HTTPStatus.OK, "text/plain"
        if (wrong := fault(self.headers, self.server.host, page=page)) is not None:
            status, body = HTTPStatus.FORBIDDEN, f"{wrong}\n".encode()
        else:
            try:
                kind, body = make()
            except InputError as error:
                status, body = HTTPStatus.BAD_REQUEST, f"{error}\n".encode()
            except TimeoutError:
                status, body = HTTPStatus.REQUEST_TIMEOUT, b"the request did not arrive whole\n"
            except Exception as error:  # the user's network may raise anything, and the page goes on
                status, body = HTTPStatus.INTERNAL_SERVER_ERROR, f"{reason(error)}\n".encode()
        self._send(status, kind, body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """What the server calls itself."""
        return "fewer"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is wrong is shown on the page."""


def _request(query: str) -> Request:
    try:
        fields = dict(parse_qsl(query, max_num_fields=len(Request.__dataclass_fields__)))
    except ValueError as error:
        raise InputError(f"request: {error}") from error
    return checked(_adapter, fields, "request")


def _json(content: object) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()
