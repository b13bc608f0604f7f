"""Discord's OAuth2 as its documentation tells it (topics/oauth2, resources/user)."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.servers.oauth import Answer, OAuthServer

UNAUTHORIZED = Answer(401, {"message": "401: Unauthorized", "code": 0})


@dataclass
class DiscordOAuth(OAuthServer):
    client_id: str = "157730590492196864"
    client_secret: str = "discord-client-secret"
    authorize: str = "/oauth2/authorize"
    token: str = "/api/v10/oauth2/token"
    me: str = "/api/v10/users/@me"
    person: dict[str, Any] = field(
        default_factory=lambda: {
            "id": "80351110224678912", "username": "nelly", "discriminator": "0",
            "global_name": "Nelly", "avatar": None, "flags": 64,
        }
    )  # fmt: skip

    def made(self, code: dict[str, str]) -> dict[str, Any]:
        return {
            "access_token": secrets.token_urlsafe(22), "token_type": "Bearer",
            "expires_in": 604800, "refresh_token": secrets.token_urlsafe(22),
            "scope": code["scope"],
        }  # fmt: skip

    def proof(self, path: str, method: str, headers: dict[str, str]) -> Answer | None:
        if (method, path) != ("GET", self.me):
            return None
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return Answer(200, self.person) if token in self.tokens else UNAUTHORIZED
