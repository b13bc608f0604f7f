"""What Discord's and Telegram's sign-in have in common: RFC 6749's authorization code with PKCE.

A person at a browser is asked at `/…/authorize` and says yes at once, or no where `refuses` is set;
codes work once, within their time, for the client and the address that they were made for.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


@dataclass
class Answer:
    """What a server says to a request."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class OAuthServer:
    """One server on loopback; each of the two says where its pages are and who somebody is."""

    client_id: str
    client_secret: str
    authorize: str = ""
    token: str = ""
    # Where people may be sent back to; whatever a browser asks for where it is empty.
    redirects: tuple[str, ...] = ()
    refuses: bool = False
    # Answers that a path has instead of its own, and seconds that it waits before any.
    instead: dict[str, Answer] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    # What was asked: method, path and what came with it.
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    def __enter__(self) -> "OAuthServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self.answer(parts.path, "GET", parse_qs(parts.query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.answer(self.path, "POST", parse_qs(body.decode()))

            def answer(self, path: str, method: str, given: dict[str, list[str]]) -> None:
                plain = {name: values[0] for name, values in given.items()}
                server.asked.append((method, path, plain))
                server.closing.wait(server.slow.get(path, 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                told = server.instead.get(path) or server.serve(path, method, plain, headers)
                data = told.body if isinstance(told.body, str) else json.dumps(told.body)
                try:
                    self.send_response(told.status)
                    for name, value in told.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(data.encode())))
                    self.end_headers()
                    self.wfile.write(data.encode())
                except OSError:
                    return  # Who asked has gone.

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def serve(
        self, path: str, method: str, given: dict[str, str], headers: dict[str, str]
    ) -> Answer:
        if (method, path) == ("GET", self.authorize):
            return self.consent(given)
        if (method, path) == ("POST", self.token):
            return self.exchange(given, headers)
        return self.proof(path, method, headers) or Answer(404, {"message": "404: Not Found"})

    def proof(self, path: str, method: str, headers: dict[str, str]) -> Answer | None:
        """What says who somebody is."""
        raise NotImplementedError

    def made(self, code: dict[str, str]) -> dict[str, Any]:
        """What a code is exchanged for."""
        raise NotImplementedError

    def consent(self, given: dict[str, str]) -> Answer:
        back = given.get("redirect_uri", "")
        if given.get("client_id") != self.client_id or (
            self.redirects and back not in self.redirects
        ):
            return Answer(400, "Invalid OAuth2 redirect_uri")
        if given.get("response_type") != "code" or given.get("code_challenge_method") != "S256":
            return Answer(400, {"error": "invalid_request"})
        state = {"state": given["state"]} if "state" in given else {}
        if self.refuses:
            told = {
                "error": "access_denied",
                "error_description": "The resource owner denied the request",
            }
        else:
            code = secrets.token_urlsafe(22)
            self.codes[code] = {**given, "until": str(time.time() + 600)}
            told = {"code": code}
        return Answer(302, "", {"location": f"{back}?{urlencode({**told, **state})}"})

    def exchange(self, given: dict[str, str], headers: dict[str, str]) -> Answer:
        if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return Answer(400, {"error": "invalid_request"})
        basic = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if headers.get("authorization") != f"Basic {basic}":
            return Answer(401, {"error": "invalid_client"})
        if given.get("grant_type") != "authorization_code":
            return Answer(400, {"error": "unsupported_grant_type"})
        code = self.codes.pop(given.get("code", ""), {})
        if not code or float(code["until"]) < time.time():
            wrong = 'Invalid "code" in request.'
            return Answer(400, {"error": "invalid_grant", "error_description": wrong})
        if given.get("redirect_uri") != code["redirect_uri"]:
            wrong = 'Invalid "redirect_uri" in request.'
            return Answer(400, {"error": "invalid_grant", "error_description": wrong})
        verifier = given.get("code_verifier", "")
        if len(verifier) < 43:
            wrong = 'Missing "code_verifier"' if not verifier else 'Invalid "code_verifier"'
            return Answer(400, {"error": "invalid_request", "error_description": wrong})
        digest = hashlib.sha256(verifier.encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != code["code_challenge"]:
            wrong = 'Invalid "code_verifier"'
            return Answer(400, {"error": "invalid_grant", "error_description": wrong})
        told = self.made(code)
        self.tokens.add(str(told["access_token"]))
        return Answer(200, told, {"content-type": "application/json"})
