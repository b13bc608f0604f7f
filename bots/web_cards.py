"""What the JSON interface answers: its description, which its answers are held to."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.lifecycle import State
from core.policy import Show


class Result(BaseModel):
    """One finished picture."""

    # An engine may tell more of what it drew.
    model_config = ConfigDict(extra="allow")
    url: str = Field(description="Where the picture is, below this address.")
    alt: str = Field(description="A description for those who cannot see it.")
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    marked: str | None = Field(
        None, description="Why it is not for everybody, as a check says; unchecked: none could."
    )


class CardButton(BaseModel):
    """Something that can be done to a job now."""

    action: str
    label: str
    row: int = Field(description="Those of a row stand side by side.")


class Begun(BaseModel):
    """A picture that a job begins with."""

    url: str = Field(description="Where the picture is, below this address.")
    mask: bool = Field(description="Whether it says what is painted anew: white is, black stays.")
    marked: bool = Field(description="Whether it is a drawn picture that a check has marked.")


class Upload(BaseModel):
    """A picture that was brought."""

    id: str = Field(description="What `images` and `mask` take; yours alone, for a day.")
    width: int
    height: int


class Card(BaseModel):
    """What a person is shown of a job."""

    status: str
    details: str
    notice: str
    better: str = Field(description="What a text engine made of the prompt, as a card says it.")
    show: Show = Field(
        description="How its pictures are shown, as the policy says of those that are marked; "
        "what is withheld is not among the results."
    )
    paints: bool = Field(
        description="Whether pictures can be painted over here, at `/paint/ID.PLACE`."
    )
    buttons: list[CardButton]


class Job(BaseModel):
    """One request, from asking to its pictures, or to what is written."""

    id: int
    type: str = Field(description="What was asked for, as `POST /api/jobs` calls it.")
    status: State
    progress: float = Field(description="The share drawn, 0 to 1.")
    place: int | None = Field(description="Place in line while queued; 1 is next.")
    eta_seconds: float | None = Field(description="Seconds until it is there, roughly.")
    ready: datetime | None = Field(
        description="When it is expected, to the minute; null where nobody can tell."
    )
    prompt: str = Field(description="What is drawn.")
    original: str | None = Field(
        description="What was asked for, where a text engine wrote the prompt out."
    )
    enhanced: str | None = Field(
        description="The prompt that a text engine wrote: of a picture the one that is drawn, of a "
        "proposal the one to be drawn."
    )
    parameters: dict[str, Any] = Field(description="Every option as it is drawn with.")
    sources: list[Begun] = Field(description="The pictures that it begins with.")
    parent: int | None = Field(description="The job that this one draws again, or begins with.")
    text: str | None = Field(
        description="What is written by now, as plain text; null where a picture is drawn."
    )
    error: str | None = Field(description="What went wrong, in words for the asker.")
    seconds: float | None = Field(description="How long the drawing took.")
    created: datetime
    ended: datetime | None
    results: list[Result]
    preview: str | None = Field(
        description="Where a small picture of what is drawn by now is, while it is being drawn: "
        "a JPEG, several pictures side by side as in a grid. Another one has another address."
    )
    version: int = Field(description="Higher with each change.")
    card: Card


class Made(Job):
    """The first job that a request made, and the numbers of the others."""

    also: list[int]


class Choice(BaseModel):
    """A button below a question; its id is `action:number` of `/api/proposals`."""

    id: str
    label: str


class Option(BaseModel):
    """Something to choose below some words, which make way for what is answered to it."""

    id: str = Field(description="What `/api/choices` takes.")
    label: str
    help: str
    now: bool = Field(description="Whether it is so now.")


class Sample(BaseModel):
    """A picture of what something draws."""

    name: str
    url: str = Field(description="Where the picture is, below this address.")


class Answer(BaseModel):
    """What a line in the chat is answered with: words, a job, or both."""

    text: str = ""
    buttons: list[Choice] = []
    job: Job | None = None
    fresh: bool = Field(False, description="Whether the job's card belongs below the line.")
    also: list[int] = Field([], description="The other jobs that the line made.")
    samples: list[Sample] = Field([], description="Pictures of what the words tell of.")
    choices: list[Option] = Field([], description="What may be chosen below the words.")
    private: bool = Field(
        False, description="Whether it is for one pair of eyes: the page does not keep it."
    )


class Counted(BaseModel):
    """What one asked for, and what became of it."""

    total: int
    states: dict[State, int]
    average_seconds: float | None = Field(description="Of a drawing; null where there is none.")
    seconds: float = Field(description="Of drawing and writing, in all.")
    elsewhere: dict[str, float] = Field(
        description="Of these those that engines elsewhere took, by engine; the others were spent "
        "on the host's own machines."
    )
    cost: float | None = Field(description="What it cost the host; null where no price is set.")


class Share(BaseModel):
    """What a model, or a person, has cost; without a name what was forgotten since."""

    name: str
    cost: float
    pictures: int


class Costs(BaseModel):
    """What everybody's drawing has cost the host."""

    today: float
    lately: float = Field(description="In the last so many days, as models and people tell it.")
    days: int
    models: list[Share]
    people: list[Share]


class Stats(BaseModel):
    """Counts and times of one's own, those of deleted ones too: they were drawn."""

    today: Counted
    all: Counted
    currency: str
    everybody: Costs | None = Field(
        description="For moderators whom the host lists, where prices are set."
    )


class Words(BaseModel):
    """An answer in words."""

    text: str


class Completed(BaseModel):
    """What a line that is being typed may become."""

    texts: list[str]


class Model(BaseModel):
    """Something that draws, writes or describes, and its defaults: null is nothing to it."""

    name: str
    engine: str = Field(description="What it runs on: here, or a service by its name.")
    size: int | None
    steps: int | None
    guidance: float | None
    sampler: str | None
    largest: int | None = Field(description="Most pixels a side.")
    modes: list[str] = Field(
        description="What it can begin with; write, enhance and describe make words."
    )
    lacks: list[str] = Field(description="The parameters that mean nothing to it.")
    loras: list[str] = Field(description="The LoRAs that fit it.")
    loaded: bool = Field(description="Whether a worker has it loaded now.")
    note: str = Field(description="What a moderator says of it.")
    picture: str | None = Field(description="Where a picture of what it draws is.")


class Queue(BaseModel):
    """How busy it is."""

    queued: int
    generating: int
    waiting: int = Field(description="Being drawn by another server.")
    workers: int = Field(description="How many can be drawn at once.")
    own: int = Field(description="How many of the host's own workers draw.")
    engines: list[str] = Field(
        description="The engines that are asked over the network, servers at home too, by name."
    )
    lines: dict[str, int] = Field(description="How many work on each line: draw, write, kie, …")
