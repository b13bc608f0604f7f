"""Signing in as who one is on Discord or Telegram: what is asked of those, and what they answer.

Both are asked the same way: OAuth2's authorization code with PKCE, and no more than who somebody
is. What comes back is used once and kept nowhere. Telegram tells it in an OpenID Connect token.
"""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from core.errors import TooMuch, TryAgain, UserError
from core.languages import tr
from core.settings import Discord, Telegram, read

log = logging.getLogger("drawqueue")

# How long one of them may take in all.
PATIENCE_SECONDS = 10.0
DISCORD_API = "https://discord.com/api/v10"
# What BotFather lets a bot's tokens be signed with.
SIGNED_WITH = ["RS256", "ES256", "EdDSA", "ES256K"]
# How much the clocks of two machines may differ.
LEEWAY_SECONDS = 60


@dataclass(frozen=True)
class Guest:
    """Who somebody is elsewhere: `discord:123`, and what they are called there."""

    account: str
    name: str


@dataclass(frozen=True)
class Begun:
    """What one browser began, until it comes back."""

    state: str
    verifier: str
    nonce: str
    back: str


@dataclass(frozen=True)
class Way:
    """One chat that says who somebody is."""

    id: str
    title: str
    client_id: str
    secret: str
    authorize_url: str
    token_url: str
    # What says who it is: of Discord an answer of its API, of Telegram a signed token.
    proof_url: str
    scope: str

    def address(self, begun: Begun) -> str:
        """Where a person is asked whether they want to sign in."""
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        told = {
            "response_type": "code", "client_id": self.client_id, "scope": self.scope,
            "redirect_uri": begun.back, "state": begun.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **({"nonce": begun.nonce} if "openid" in self.scope.split() else {}),
        }  # fmt: skip
        return f"{self.authorize_url}?{urlencode(told)}"

    async def who(self, code: str, begun: Begun) -> Guest:
        """Who came back with a code. Raises UserError."""
        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client,
            ):
                told = await self._told(
                    client.post(
                        self.token_url,
                        data={
                            "grant_type": "authorization_code", "code": code,
                            "redirect_uri": begun.back, "code_verifier": begun.verifier,
                            "client_id": self.client_id,
                        },
                        auth=(self.client_id, self.secret),
                    )
                )  # fmt: skip
                if "openid" in self.scope.split():
                    keys = await self._told(client.get(self.proof_url))
                    return self._by_token(str(told.get("id_token") or ""), keys, begun)
                token = str(told.get("access_token") or "")
                bearer = {"Authorization": f"Bearer {token}"}
                return self._by_answer(await self._told(client.get(self.proof_url, headers=bearer)))
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("%s does not say who signs in (%s)", self.title, type(error).__name__)
            raise self._away() from None
        except (JoseError, ValueError, TypeError, KeyError) as error:
            # Whatever it says may hold what nobody shall read.
            log.warning(
                "%s: what says who signs in is wrong (%s)", self.title, type(error).__name__
            )
            raise UserError(
                tr("{chat} did not say who you are. Please try again.", chat=self.title)
            ) from None

    async def _told(self, asked: Any) -> Mapping[str, Any]:
        answer: httpx.Response = await asked
        if answer.status_code == 429:
            wait = answer.headers.get("retry-after", "")
            raise TooMuch(
                tr("Too many sign in with {chat} just now. Try again soon.", chat=self.title),
                min(float(wait), 3600.0) if wait.isdecimal() else 60.0,
            )
        if answer.status_code >= 500:
            answer.raise_for_status()
        told = answer.json()
        if answer.status_code == 200 and isinstance(told, dict):
            return told
        fault = str(told.get("error") or "")[:40] if isinstance(told, dict) else ""
        if fault == "invalid_grant":
            raise UserError(tr("That sign-in was used already, or took too long. Start again."))
        # Something that its host has to mend.
        log.error(
            "%s refuses the client of %s_CLIENT_SECRET: %d %s", self.title, self.id.upper(),
            answer.status_code, "".join(filter(str.isprintable, fault)),
        )  # fmt: skip
        raise self._away()

    def _away(self) -> TryAgain:
        return TryAgain(
            tr("{chat} cannot say who you are just now. Please try again.", chat=self.title)
        )

    def _by_answer(self, told: Mapping[str, Any]) -> Guest:
        id_ = str(told["id"])
        return self._guest(id_, told.get("global_name") or told.get("username"))

    def _by_token(self, token: str, keys: Mapping[str, Any], begun: Begun) -> Guest:
        found = jwt.decode(token, KeySet.import_key_set(dict(keys)), algorithms=SIGNED_WITH)  # type: ignore[arg-type]
        claims = found.claims
        JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self.authorize_url.rpartition("/")[0]},
            aud={"essential": True, "value": self.client_id},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
        # What is written of the flow does not promise one: the code is this browser's anyway.
        if claims.get("nonce", begun.nonce) != begun.nonce:
            raise ValueError("nonce")
        # `sub` is another number, of their account with this bot alone.
        return self._guest(
            str(claims["id"]), claims.get("name") or claims.get("preferred_username")
        )

    def _guest(self, id_: str, name: Any) -> Guest:
        if not (id_.isascii() and id_.isdigit() and len(id_) <= 20 and int(id_)):
            raise ValueError("id")
        shown = "".join(filter(str.isprintable, str(name or ""))).strip()
        return Guest(f"{self.id}:{int(id_)}", shown[:40] or self.title)


def ways() -> dict[str, Way]:
    """The chats that people of this house may sign in with."""
    discord, telegram = read(Discord), read(Telegram)
    api, login = discord.api_url.rstrip("/") or DISCORD_API, telegram.login_url.rstrip("/")
    found = []
    if discord.login:
        found.append(
            Way(
                "discord", "Discord", discord.client_id, discord.client_secret.get_secret_value(),
                discord.authorize_url, f"{api}/oauth2/token", f"{api}/users/@me", "identify",
            )
        )  # fmt: skip
    if telegram.login:
        found.append(
            Way(
                "telegram", "Telegram", telegram.client_id,
                telegram.client_secret.get_secret_value(), f"{login}/auth", f"{login}/token",
                f"{login}/.well-known/jwks.json", "openid profile",
            )
        )  # fmt: skip
    return {one.id: one for one in found}
