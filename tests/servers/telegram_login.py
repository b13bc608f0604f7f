"""“Log In With Telegram” as its documentation tells it: OpenID Connect without a userinfo page."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.servers.oauth import Answer, OAuthServer


@dataclass
class TelegramLogin(OAuthServer):
    client_id: str = "123456789"
    client_secret: str = "telegram-client-secret"
    authorize: str = "/auth"
    token: str = "/token"
    # What the token says beside or instead of its own, None to leave a claim out.
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256"})
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    # With what tokens are really signed.
    signs: Any = None

    def made(self, code: dict[str, str]) -> dict[str, Any]:
        now = int(time.time())
        told = {
            "iss": self.address, "aud": self.client_id, "sub": "1234123412341234123", "iat": now,
            "exp": now + 3600, "id": 987654321, "name": "John Doe",
            "preferred_username": "johndoe", "nonce": code.get("nonce"), **self.claims,
        }  # fmt: skip
        plain = {name: value for name, value in told.items() if value is not None}
        signed = jwt.encode({"kid": "one", **self.header}, plain, self.signs or self.key)
        return {
            "access_token": secrets.token_urlsafe(22), "token_type": "Bearer", "expires_in": 3600,
            "id_token": signed,
        }  # fmt: skip

    def proof(self, path: str, method: str, headers: dict[str, str]) -> Answer | None:
        if (method, path) != ("GET", "/.well-known/jwks.json"):
            return None
        return Answer(200, {"keys": [{**self.key.as_dict(private=False), "use": "sig"}]})
