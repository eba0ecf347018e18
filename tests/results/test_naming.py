"""What stored results are called, and what cannot be one."""

import pytest

from ringback.results.naming import file_name, plain_type, stem, wrong_beginning, wrong_type


@pytest.mark.parametrize(
    ("kind", "content_type", "url", "ending"),
    [
        ("video", "video/mp4; codecs=avc1", "https://c/x", "mp4"),
        ("video", "application/octet-stream", "https://c/x.webm?a=b", "webm"),
        ("video", None, "https://c/x.exe", "mp4"),
        ("image", None, "https://c/x", "png"),
        ("audio", "binary/octet-stream", "https://c/a.php?x=.wav", "mp3"),
        ("file", None, "https://c/download", "bin"),
        ("transcript", "application/json", "https://c/t", "json"),
    ],
)
def test_an_ending_is_from_a_fixed_list(kind: str, content_type: str | None, url: str, ending: str) -> None:
    """The content type counts, then the URL's own ending where it is a known one, then what is usual."""
    assert file_name("task_a", 3, kind, content_type, url) == f"task_a/3.{ending}"


@pytest.mark.parametrize("task_id", ["", "..", "a/b", "task_é", "a" * 101])
def test_only_ids_of_ours_make_names(task_id: str) -> None:
    """Nothing that could climb out of the folder is ever a name."""
    with pytest.raises(ValueError, match="an id of ours"):
        file_name(task_id, 0, "video", None, "https://c/x")
    with pytest.raises(ValueError, match="an id of ours"):
        stem("task_a", -1)


@pytest.mark.parametrize(
    ("kind", "content_type", "fits"),
    [
        ("video", "video/webm", True),
        ("video", "image/gif", True),
        ("video", "image/png", False),
        ("video", None, True),
        ("audio", "video/mp4", True),
        ("image", "text/html", False),
        ("video", "application/json; charset=utf-8", False),
        ("file", "application/json", True),
        ("file", "text/html", False),
    ],
)
def test_a_content_type_must_fit(kind: str, content_type: str | None, fits: bool) -> None:
    """Media must be such media, or of no type; anything else may be anything but a page."""
    assert (wrong_type(kind, content_type) is None) == fits


@pytest.mark.parametrize(
    ("kind", "beginning", "fits"),
    [
        ("video", b"\x00\x00\x00\x18ftypmp42", True),
        ("video", b'\xef\xbb\xbf\n{"error"', False),
        ("video", b"<?xml version='1.0'?><Error>", False),
        ("image", b"<?xml version='1.0'?><svg>", True),
        ("image", b"<HTML>", False),
        ("file", b'{"text": "hello"}', True),
        ("file", b"<!doctype html>", False),
    ],
)
def test_a_beginning_must_fit(kind: str, beginning: bytes, fits: bool) -> None:
    """What begins as a page or a JSON text is no film, whatever its type says."""
    assert (wrong_beginning(kind, beginning) is None) == fits


def test_a_type_is_compared_plainly() -> None:
    """Without parameters and in lower case."""
    assert plain_type(" Video/MP4 ; x=y") == "video/mp4"
    assert wrong_type("image", "text/html") == "text/html came in place of an image"
