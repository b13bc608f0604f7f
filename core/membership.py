"""What somebody is to the house: their class and quota, accounts that are one, mentions."""

import re

from core import choosing
from core.asking import Ask, Reply
from core.choosing import MENTIONING
from core.errors import NotAllowed, UserError
from core.export import let_go
from core.house import House
from core.languages import tr
from core.policy import policy


def quota(house: House, ask: Ask) -> Reply:
    """What the asker has left today, and what their account is called."""
    told = house.generations.admission.quota(ask.asker)
    account = tr(
        "Your account is {account}; settings, policies and /grant call it so.",
        account=ask.asker.account,
    )
    return Reply(f"{told}\n{account}")


def choose(house: House, ask: Ask) -> Reply:
    """The asker's class, or another of theirs from now on. Raises UserError."""
    person = house.people.get(ask.asker.platform, ask.asker.id)
    choice = person.classes(policy(), ask.asker)
    wanted = str(ask.given.get("choice") or "").strip().lower()
    if not wanted:
        if len(choice) == 1:
            return Reply(tr("Your class is {name}.", name=choice[0]))
        return Reply(
            tr(
                "Your class is {name}. Yours to choose: {names}.",
                name=choice[0], names=", ".join(choice),
            )
        )  # fmt: skip
    if wanted not in choice:
        raise NotAllowed(
            tr(
                "Class {name} is not yours here. Yours: {names}.",
                name=wanted[:40], names=", ".join(choice),
            )
        )  # fmt: skip
    house.people.choose(ask.asker, wanted)
    return Reply(
        tr("Your class is {name} from now on; what is in line keeps the one it has.", name=wanted)
    )


def grant(house: House, ask: Ask) -> Reply:
    """Give somebody a class, for moderators. Raises UserError."""
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can give somebody a class."))
    name = str(ask.given["choice"]).strip().lower()
    if name not in policy().classes and name != "none":
        raise UserError(
            tr(
                "There is no class {name}. Known: {names}.",
                name=name[:40], names=", ".join(policy().classes),
            )
        )  # fmt: skip
    who = str(ask.given["who"]).strip()
    mention = re.fullmatch(r"<@!?([0-9]{1,20})>|@?([0-9]{1,20})", who)
    platform, id_ = ask.asker.platform, mention and (mention[1] or mention[2])
    if account := re.fullmatch(r"(discord|telegram|web):(?:user:)?([\w-]{1,64})", who):
        platform, id_ = account[1], account[2]
    if not id_:
        raise UserError(
            tr(
                "Say to whom by their account, which /quota tells them, for example telegram:123, "
                "or just 123 for somebody of this platform."
            )
        )
    house.people.grant(platform, id_, "" if name == "none" else name)
    granted = f"{platform}:{id_}"
    if name == "none":
        return Reply(tr("{account} has no granted class any more.", account=granted))
    return Reply(tr("{account} is in class {name} now.", account=granted, name=name))


def link(house: House, ask: Ask) -> Reply:
    """A code, or with one: make two accounts one person's. Raises UserError."""
    code = str(ask.given.get("code") or "").strip()
    if not code:
        return Reply(
            tr(
                "Write /link {code} to me on your other platform within ten minutes. Pictures, "
                "quota and place in line are then one. Give the code to nobody: whoever enters it "
                "shares all that.",
                code=house.people.code(ask.asker),
            )
        )
    if str(ask.given.get("sure") or "").strip().lower() != "yes":
        other = house.people.offered(ask.asker, code)
        return Reply(
            tr(
                "That is the code of {account}. If that account is yours, write /link {code} yes: "
                "pictures, quota and place in line are then one. If somebody else gave you the "
                "code, leave it: they would see your pictures.",
                account=other, code=code,
            )
        )  # fmt: skip
    linked = house.people.link(ask.asker, code)
    # What was packed for one of them is not all of theirs.
    let_go(house, house.people.get(ask.asker.platform, ask.asker.id).everyone)
    return Reply(tr("Linked with {account}. /unlink undoes it.", account=linked))


def unlink(house: House, ask: Ask) -> Reply:
    """Let an account be by itself again. Raises UserError."""
    together = house.people.get(ask.asker.platform, ask.asker.id).everyone
    if not house.people.unlink(ask.asker):
        raise UserError(tr("This account is linked to no other. /link does that."))
    # What was packed for all of them holds what is another's now.
    let_go(house, together)
    return Reply(tr("Unlinked: this account is by itself again, with the pictures it asked for."))


def quiet(house: House, ask: Ask) -> Reply:
    """Turn mentions off, or on again."""
    if ask.asker.platform not in MENTIONING:
        return Reply(tr(choosing.NOBODY))
    if house.people.turn_quiet(ask.asker):
        return Reply(
            tr("I will not mention you any more when a picture took long. /quiet again to undo.")
        )
    return Reply(tr("I will mention you again when a picture took long."))
