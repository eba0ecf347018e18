"""PURE. What a stored result is called, and what cannot be one: an error page in place of a video.

Called by `keeper`. No name is made of a stranger's words: the task's id is ours, the ending from a fixed list.
"""

import re
from urllib.parse import urlsplit

SAFE = re.compile(r"[0-9A-Za-z_-]{1,100}")
MEDIA = frozenset({"video", "image", "audio"})
# What servers say that do not know, or do not care.
NEUTRAL = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-octet-stream"})
# Said of what is one all the same: sound in a film's container, a film that is an image, containers without a family.
ALSO: dict[str, frozenset[str]] = {
    "video": frozenset({"application/mp4", "application/ogg", "image/gif", "image/webp", "image/apng"}),
    "audio": frozenset({"application/mp4", "application/ogg", "video/mp4", "video/webm", "video/ogg"}),
    "image": frozenset({"application/postscript"}),
}
ENDINGS = {
    "video/mp4": "mp4", "application/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov",
    "video/x-matroska": "mkv", "video/ogg": "ogv", "video/mpeg": "mpg", "image/png": "png", "image/jpeg": "jpg",
    "image/webp": "webp", "image/gif": "gif", "image/avif": "avif", "image/apng": "apng", "image/svg+xml": "svg",
    "image/bmp": "bmp", "image/tiff": "tif", "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav",
    "audio/x-wav": "wav", "audio/wave": "wav", "audio/ogg": "ogg", "audio/opus": "opus", "audio/flac": "flac",
    "audio/mp4": "m4a", "audio/x-m4a": "m4a", "audio/aac": "aac", "audio/webm": "weba", "application/json": "json",
    "text/plain": "txt", "text/vtt": "vtt", "application/x-subrip": "srt", "application/pdf": "pdf",
    "application/zip": "zip", "model/gltf-binary": "glb", "model/obj": "obj", "text/csv": "csv",
}  # fmt: skip
KNOWN_ENDINGS = frozenset(ENDINGS.values()) | {"jpeg", "m4v", "fbx", "usdz", "stl", "ply"}
USUAL_ENDING = {"video": "mp4", "image": "png", "audio": "mp3"}
# How the pages begin that stand in place of media. Of an image, XML may be one.
PAGES = (b"{", b"[", b"<!doctype", b"<html", b"<head", b"<body", b"<error")
XML = b"<?xml"
SNIFFED = 512  # bytes that are looked at


def stem(task_id: str, position: int) -> str:
    """Give the name of a result that is still coming.

    Raises:
        ValueError: the task's id is none of ours.
    """
    if not SAFE.fullmatch(task_id) or position < 0:
        raise ValueError("expected an id of ours, such as task_…")
    return f"{task_id}.{position}"


def file_name(task_id: str, position: int, kind: str, content_type: str | None, url: str) -> str:
    """Give the name of a stored result: its task, its place among the results, and an ending.

    Raises:
        ValueError: the task's id is none of ours.
    """
    stem(task_id, position)
    ending = ENDINGS.get(plain_type(content_type)) or _ending_of(url) or USUAL_ENDING.get(kind, "bin")
    return f"{task_id}/{position}.{ending}"


def plain_type(content_type: str | None) -> str:
    """Give a content type without its parameters, in lower case; nothing where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()[:100]


def wrong_type(kind: str, content_type: str | None) -> str | None:
    """Say what came in place of such a result, going by its content type; None where it may be one."""
    told = plain_type(content_type)
    if told in NEUTRAL:
        return None
    if kind in MEDIA:
        fits = told.startswith(f"{kind}/") or told in ALSO[kind]
    else:
        fits = told not in ("text/html", "application/xhtml+xml")
    return None if fits else f"{told} came in place of {_article(kind)}"


def wrong_beginning(kind: str, beginning: bytes) -> str | None:
    """Say what came in place of such a result, going by its first bytes; None where it may be one."""
    text = beginning[:SNIFFED].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if kind in MEDIA:
        page = text.startswith(PAGES) or (text.startswith(XML) and kind != "image")
    else:
        page = text.startswith((b"<!doctype html", b"<html"))
    return f"a page of text came in place of {_article(kind)}" if page else None


def _article(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"


def _ending_of(url: str) -> str | None:
    ending = urlsplit(url).path.rpartition("/")[2].rpartition(".")[2].lower()
    return ending if ending in KNOWN_ENDINGS else None
