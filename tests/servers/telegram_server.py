"""A strict Telegram Bot API on loopback, with a control door for tests.

Run it: ``python -m tests.servers.telegram_server --port 0 --token 123:TEST``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import re
import signal
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.telegram_state import (
    MB,
    ApiError,
    Chat,
    Fault,
    File,
    Json,
    Message,
    Params,
    Platform,
    Upload,
    Version,
    bad,
    finish,
    too_many,
)

ENDED = "terminated by other getUpdates request; make sure that only one bot instance is running"
USE_DELETE = (
    "can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)


def conflict(what: str) -> ApiError:
    """A 409."""
    return ApiError(409, f"Conflict: {what}")


async def read(request: web.Request) -> Params:
    """The parameters of a request: query, urlencoded, JSON or multipart."""
    values: Json = dict(request.query)
    files: dict[str, Upload] = {}
    if request.content_type == "application/json":
        given = await request.json()
        values |= given if isinstance(given, dict) else {}
    elif request.method == "POST":
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files[name] = Upload(value.filename, value.file.read(), value.content_type)
            else:
                values[name] = value if isinstance(value, str) else bytes(value).decode()
    return Params(values, files)


class Server:
    """The HTTP side of a platform: methods, long polls, webhook."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.calls: list[Json] = []
        self.bell = asyncio.Event()
        self.poll = 0
        self.webhook: Json = {}
        platform.notify = self.ring

    def ring(self) -> None:
        """Wake all who wait for updates."""
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one API call."""
        platform = self.platform
        method = request.match_info["method"]
        entry: Json = {"method": method, "params": {}, "time": platform.now()}
        self.calls.append(entry)
        fault: Fault | None = None
        try:
            if request.match_info["token"] != platform.token:
                raise ApiError(401, "Unauthorized")
            p = await self.parameters(request)
            entry["params"] = p.seen()
            fault = self.fault(method)
            if fault and not fault.after_applying:
                return self.broken(request, entry, fault)
            body: Json = {"ok": True, "result": await self.call(method, p)}
            status = 200
            if fault:
                return self.broken(request, entry, fault)
        except ApiError as error:
            status, body = error.status, error.body
        entry["status"], entry["description"] = status, body.get("description")
        return web.json_response(body, status=status)

    async def parameters(self, request: web.Request) -> Params:
        """Read a request, or refuse it as the platform does."""
        try:
            return await read(request)
        except web.HTTPRequestEntityTooLarge:
            raise ApiError(413, "Request Entity Too Large") from None
        except ValueError:
            raise bad("can't parse request") from None

    async def call(self, method: str, p: Params) -> Any:
        """The result of a method."""
        if self.platform.logged_out:
            raise bad("Logged out")
        name = method.lower()
        if name == "getupdates":
            return await self.get_updates(p)
        if name == "setwebhook":
            return self.set_webhook(p)
        if name == "deletewebhook":
            return self.set_webhook(Params({**p.values, "url": ""}))
        if name == "getwebhookinfo":
            return self.webhook_info()
        known = self.platform.methods.get(name)
        if known is None:
            raise ApiError(404, "Not Found")
        return known(p)

    def fault(self, method: str) -> Fault | None:
        """The fault waiting for a method, if any."""
        for fault in self.platform.faults:
            if fault.times > 0 and fault.method.lower() in ("*", method.lower()):
                fault.times -= 1
                return fault
        return None

    def broken(self, request: web.Request, entry: Json, fault: Fault) -> web.Response:
        """Answer with a fault; status 0 drops the connection."""
        entry |= {"status": fault.status, "fault": True, "applied": fault.after_applying}
        if not fault.status and request.transport:
            request.transport.abort()
            return web.Response()
        what = fault.description
        if not what and fault.status == 429:
            body = too_many(fault.retry_after or 1).body
        else:
            extra = {"retry_after": fault.retry_after} if fault.retry_after else {}
            body = ApiError(fault.status, what or "Internal Server Error", **extra).body
        entry["description"] = body["description"]
        return web.json_response(body, status=fault.status)

    # Updates ------------------------------------------------------------------------------------

    def choose(self, p: Params) -> None:
        """Remember which kinds of update the bot asks for."""
        kinds = p.tree("allowed_updates")
        if kinds is not None:
            if not isinstance(kinds, list):
                raise bad("can't parse allowed_updates JSON object")
            self.platform.allowed = [str(kind) for kind in kinds]

    async def get_updates(self, p: Params) -> list[Json]:
        """A long poll; a newer one ends it."""
        if self.webhook.get("url"):
            raise conflict(USE_DELETE)
        self.choose(p)
        self.poll += 1
        mine = self.poll
        self.ring()
        platform = self.platform
        if offset := p.number("offset"):
            platform.confirm(offset)
        given = p.number("limit")
        limit = given if given and 1 <= given <= 100 else 100
        clock = asyncio.get_running_loop().time
        end = clock() + min(50, max(0, p.number("timeout") or 0))
        while True:
            if found := platform.batch(limit):
                return found
            left = end - clock()
            if left <= 0:
                return []
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.bell.wait(), left)
            if self.webhook.get("url"):
                raise conflict("terminated by setWebhook request")
            if self.poll != mine:
                raise conflict(ENDED)

    def set_webhook(self, p: Params) -> bool:
        """Set the webhook, or with no url remove it."""
        url, secret = p.text("url"), p.text("secret_token")
        # Plain http is allowed as by the official server in local mode: this one is on loopback.
        if url and not re.match(r"https?://[^\s/]+", url):
            raise bad("bad webhook: An HTTPS URL must be provided for webhook")
        if secret and not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret):
            raise bad("secret token contains unallowed characters")
        self.choose(p)
        if p.flag("drop_pending_updates"):
            self.platform.pending = []
        self.webhook = {"url": url, "secret": secret} if url else {}
        self.ring()
        return True

    def webhook_info(self) -> Json:
        """The state of the webhook."""
        info: Json = {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self.platform.pending),
        }
        if self.platform.allowed:
            info["allowed_updates"] = self.platform.allowed
        info |= self.webhook.get("error", {})
        return info

    async def deliver(self) -> None:
        """Post updates to the webhook, in order, each until it is accepted."""
        platform = self.platform
        pause = 0.1
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            while True:
                hook = self.webhook
                if not hook or not (platform.again or platform.pending):
                    await self.bell.wait()
                    continue
                queue = platform.again or platform.pending
                update = queue[0]
                secret = hook["secret"]
                headers = {"X-Telegram-Bot-Api-Secret-Token": secret} if secret else {}
                try:
                    async with session.post(hook["url"], json=update, headers=headers) as answer:
                        problem = "" if 200 <= answer.status < 300 else f"{answer.status}"
                except (aiohttp.ClientError, TimeoutError) as error:
                    problem = str(error) or type(error).__name__
                if not problem:
                    pause = 0.1
                    # The queues may have been replaced while the bot was answering.
                    for queue in (platform.again, platform.pending):
                        if queue and queue[0] is update:
                            del queue[0]
                            break
                    continue
                hook["error"] = {
                    "last_error_date": int(platform.now()),
                    "last_error_message": f"Wrong response from the webhook: {problem}",
                }
                await asyncio.sleep(pause)
                pause = min(5, pause * 2)

    async def file(self, request: web.Request) -> web.Response:
        """The bytes of a file, as the platform keeps them."""
        found = self.platform.paths.get(request.match_info["path"])
        if request.match_info["token"] != self.platform.token or found is None:
            return web.json_response(ApiError(404, "Not Found").body, status=404)
        return web.Response(body=found.data, content_type="application/octet-stream")


class Door:
    """What tests do as people, chats and misfortune: JSON under /control/."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.platform = server.platform

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request at the door."""
        name = request.match_info["name"]
        found = getattr(self, f"{request.method.lower()}_{name}", None)
        if found is None:
            return web.json_response({"error": f"no such control: {name}"}, status=404)
        try:
            result = found((await read(request)).values)
        except (KeyError, ValueError, TypeError, ApiError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        if isinstance(result, bytes):
            return web.Response(body=result, content_type="application/octet-stream")
        return web.json_response(result)

    def chat_of(self, q: Json) -> Chat:
        """The chat a message is in, made when it is new."""
        id, person = int(q["chat_id"]), int(q["user_id"])
        chats = self.platform.chats
        if id > 0 and id != person:
            raise ValueError("a private chat has the id of its user")
        if id not in chats:
            kind = "supergroup" if str(id).startswith("-100") else "group"
            chats[id] = Chat(id, q.get("chat_type") or ("private" if id > 0 else kind))
        chat = chats[id]
        if chat.private:
            user = self.platform.users.get(id, {})
            chat.started, chat.first_name = True, user.get("first_name", "")
            chat.username = user.get("username", "")
        else:
            chat.members.add(person)
            # A person seen only in a group cannot be written to.
            chats.setdefault(person, Chat(person, "private", started=False))
        return chat

    def sees(self, message: Message) -> bool:
        """Whether the bot gets a message, by the rules of privacy mode."""
        chat, version = message.chat, message.versions[-1]
        if chat.kicked or chat.left:
            return False
        me = self.platform.me
        name = str(me["username"]).lower()
        to_other = re.match(r"/\w+@(\w+)", version.text)
        if to_other and to_other[1].lower() != name and not chat.private:
            return not self.platform.privacy
        if chat.private or chat.bot_admin or not self.platform.privacy:
            return True
        reply = message.reply_to
        command = version.text.startswith("/")
        return command or bool(reply and reply.sender is me)

    def incoming(self, q: Json, version: Version) -> Json:
        """A message of a person; update_id is null where privacy mode hides it from the bot."""
        person = self.platform.user(int(q["user_id"]), q.get("username"), q.get("first_name"))
        chat = self.chat_of(q)
        reply = None
        if q.get("reply_to_message_id"):
            reply = chat.messages[int(q["reply_to_message_id"])]
        thread = int(q["message_thread_id"]) if q.get("message_thread_id") else None
        topic = bool(q.get("is_topic_message", thread in chat.topics))
        group = q.get("media_group_id")
        message = self.platform.add(chat, person, version, thread, topic, reply, group)
        if not self.sees(message):
            return {"update_id": None, "message": message.body()}
        return self.platform.push("message", message.body())

    def post_user_message(self, q: Json) -> Json:
        text, entities = finish(str(q["text"]), [])
        return self.incoming(q, Version("text", text, entities))

    def post_photo_message(self, q: Json) -> Json:
        data = base64.b64decode(q["photo"])
        upload = Upload(q.get("file_name") or "photo.jpg", data, "")
        kind = "document" if q.get("as_document") else "photo"
        media = getattr(self.platform, f"keep_{kind}")(upload)
        text, entities = finish(str(q.get("caption") or ""), [])
        return self.incoming(q, Version(kind, text, entities, media))

    def post_edit_user_message(self, q: Json) -> Json:
        message = self.platform.chats[int(q["chat_id"])].messages[int(q["message_id"])]
        last = message.versions[-1]
        text, entities = finish(str(q["text"]), [])
        now = self.platform.now()
        message.versions.append(Version(last.kind, text, entities, last.media, time=now))
        message.edited = now
        if not self.sees(message):
            return {"update_id": None, "edited_message": message.body()}
        return self.platform.push("edited_message", message.body())

    def post_press(self, q: Json) -> Json:
        """Press a button; with stale, one of an earlier version of the message."""
        message = self.platform.chats[int(q["chat_id"])].messages[int(q["message_id"])]
        if message.deleted is not None:
            raise ValueError("the message is deleted")
        shown = message.versions if q.get("stale") else message.versions[-1:]
        wanted = q.get("callback_data")
        for version in reversed(shown):
            for row in (version.markup or {}).get("inline_keyboard", []):
                for button in row:
                    data = button.get("callback_data")
                    named = wanted is None and button["text"] in (q.get("button"), q.get("text"))
                    if data is not None and (data == wanted or named):
                        return self.pressed(message, q, data)
        raise ValueError("no such button on the message")

    def pressed(self, message: Message, q: Json, data: str) -> Json:
        """The callback query of a press."""
        id = str(self.platform.fresh() * 1000003)
        person = self.platform.user(int(q["user_id"]), q.get("username"), q.get("first_name"))
        payload = {
            "id": id,
            "from": person,
            "message": message.body(),
            "chat_instance": str(message.chat.id),
            "data": data,
        }
        self.platform.callbacks[id] = {"time": self.platform.now(), "answers": []}
        update = self.platform.push("callback_query", payload)
        return {"callback_query_id": id, "update": update}

    def post_callback_answer(self, q: Json) -> Json:
        """The last answer to a callback query, null while there is none."""
        answers = self.platform.callbacks[str(q["id"])]["answers"]
        return {"answer": answers[-1] if answers else None, "answers": answers}

    get_callback_answer = post_callback_answer

    def post_chat(self, q: Json) -> Json:
        id = int(q["chat_id"])
        kind = q.get("type") or ("private" if id > 0 else "supergroup")
        chat = self.platform.chats.setdefault(id, Chat(id, kind))
        chat.type = kind
        chat.kicked = chat.left = False
        for name in ("title", "username", "first_name", "is_forum", "bot_admin"):
            if name in q:
                setattr(chat, name, q[name])
        if "admins" in q:
            chat.admins = [int(user) for user in q["admins"]]
            for user in chat.admins:
                self.platform.user(user)
        if "topics" in q:
            chat.topics = {int(topic) for topic in q["topics"]}
        return chat.body()

    def standing(self, chat: Chat, q: Json, out: bool) -> Json:
        """Tell the bot that it was put out of a chat, or let in again."""
        me = self.platform.me
        inside = {"user": me, "status": "member"}
        outside = {"user": me, "status": "kicked", "until_date": 0}
        person = int(q.get("user_id") or (chat.admins or [abs(chat.id)])[0])
        payload = {
            "chat": chat.body(),
            "from": self.platform.user(person),
            "date": int(self.platform.now()),
            "old_chat_member": inside if out else outside,
            "new_chat_member": outside if out else inside,
        }
        return self.platform.push("my_chat_member", payload)

    def post_block(self, q: Json) -> Json:
        chat = self.platform.chats[int(q.get("chat_id") or q["user_id"])]
        chat.blocked = bool(q.get("blocked", True))
        return self.standing(chat, q, chat.blocked)

    def post_kick(self, q: Json) -> Json:
        chat = self.platform.chats[int(q["chat_id"])]
        chat.kicked = bool(q.get("kicked", True))
        return self.standing(chat, q, chat.kicked)

    def post_migrate(self, q: Json) -> Json:
        old = self.platform.chats[int(q["chat_id"])]
        to = int(q.get("to") or -1000000000000 + old.id)
        new = Chat(to, "supergroup", old.title, admins=old.admins, bot_admin=old.bot_admin)
        new.members = old.members
        self.platform.chats[to] = new
        old.migrated_to = to
        person = self.platform.user((old.admins or [1])[0])
        for chat, note in (
            (old, {"migrate_to_chat_id": to}),
            (new, {"migrate_from_chat_id": old.id}),
        ):
            message = self.platform.add(chat, person, Version("text", "", []))
            self.platform.push("message", message.body() | note)
        return {"migrate_to_chat_id": to}

    def post_redeliver(self, q: Json) -> Json:
        update = self.platform.updates[int(q["update_id"])]
        self.platform.again.append(update)
        self.server.ring()
        return update

    def post_clock(self, q: Json) -> Json:
        self.platform.ahead += float(q["advance"])
        return {"now": self.platform.now()}

    def post_limits(self, q: Json) -> Json:
        """Set rates and ages, and privacy mode; null switches a rate off."""
        limits = self.platform.limits
        unknown = set(q) - set(vars(limits)) - {"privacy"}
        if unknown:
            raise ValueError(f"no such limits: {sorted(unknown)}")
        self.platform.privacy = bool(q.pop("privacy", self.platform.privacy))
        for name, value in q.items():
            setattr(limits, name, value)
        return {**vars(limits), "privacy": self.platform.privacy}

    def post_fail(self, q: Json) -> Json:
        after = bool(q.get("after_applying", False))
        # 0 means that the connection drops, and "drop" reads better in a test.
        status = q.get("status") or 0
        fault = Fault(
            str(q["method"]),
            0 if status == "drop" else int(status),
            str(q.get("description") or ""),
            q.get("retry_after"),
            int(q.get("times", 1)),
            after,
        )
        self.platform.faults.append(fault)
        return vars(fault)

    def history(self, message: Message) -> Json:
        """A message with every version of it."""
        versions = [
            {
                **version.body(),
                "kind": version.kind,
                "time": version.time,
                "method": version.method,
                "reply_markup": version.markup,
                "photo": self.picture(version.media) if version.kind == "photo" else None,
            }
            for version in message.versions
        ]
        kinds = [version.kind for version in message.versions]
        return {
            **message.body(),
            "from_bot": message.sender is self.platform.me,
            "deleted": message.deleted,
            "text_became_media": kinds[0] == "text" and kinds[-1] != "text",
            "versions": versions,
        }

    def picture(self, media: File | None) -> Json | None:
        """The largest size of a photo."""
        return media.described() if media else None

    def get_messages(self, q: Json) -> Json:
        chat = self.platform.chats.get(int(q["chat_id"]))
        if chat is None:
            return {"messages": [], "drafts": [], "actions": []}
        messages = [self.history(message) for message in chat.messages.values()]
        return {"messages": messages, "drafts": chat.drafts, "actions": chat.actions}

    def get_calls(self, q: Json) -> list[Json]:
        wanted = str(q.get("method") or "").lower()
        return [c for c in self.server.calls if not wanted or c["method"].lower() == wanted]

    def get_file(self, q: Json) -> bytes:
        """The bytes as they were uploaded; smaller sizes of a photo as the platform made them."""
        file = self.platform.files[str(q["file_id"])]
        return file.raw or file.data

    def get_commands(self, q: Json) -> list[Json]:
        return [
            {"scope": scope, "language_code": language, "commands": commands}
            for (scope, language), commands in self.platform.commands.items()
        ]


async def serve(port: int, token: str, username: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(Platform(token, username))
    door = Door(server)
    # Room above the documents' 50 MB, so that a refusal is an answer and not a torn connection.
    app = web.Application(client_max_size=64 * MB)
    app.router.add_route("*", "/bot{token:[^/]+}/{method}", server.handle)
    app.router.add_get("/file/bot{token:[^/]+}/{path:.+}", server.file)
    app.router.add_route("*", "/control/{name}", door.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    delivery = asyncio.create_task(server.deliver())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"READY http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    delivery.cancel()
    await runner.cleanup()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="123:TEST")
    parser.add_argument("--username", default="drawqueue_test_bot")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.token, given.username))


if __name__ == "__main__":
    main()
