"""FastAPI with models: it reads and checks every field of the body, and answers by a model; stores nothing.

Started by uvicorn like the others, from the environment of the peers.
"""

from fastapi import FastAPI
from pydantic import BaseModel, HttpUrl


class Video(BaseModel):
    """One result."""

    url: list[HttpUrl]
    expires_at: int


class Result(BaseModel):
    """All results."""

    videos: list[Video]


class Push(BaseModel):
    """What the provider says."""

    task_id: str
    model: str
    action: str
    status: str
    created_at: int
    completed_at: int
    progress: int
    cost: int
    result: Result


class Receipt(BaseModel):
    """What it is told."""

    received: bool
    event: str


async def take(address: str, push: Push) -> Receipt:
    """Answer that a well-formed push has come."""
    return Receipt(received=bool(address), event=f"{push.task_id}:{push.status}")


app = FastAPI()
app.post("/callbacks/qingbo/{address}")(take)
