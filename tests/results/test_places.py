"""Where results go: a folder, a bucket through obstore, and places that cannot be used."""

import sys
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from ringback.errors import SettingsError, StorageError
from ringback.results.keeper import verify
from ringback.results.places import Bucket, Folder, open_place
from ringback.settings import Settings
from ringback.settings_values import results_url
from tests.outbound.site import VIDEO, serving

from .bucket import bucket
from .stand import film, standing, url_of

LARGE = VIDEO * 1200  # 12 MB: three parts


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be a user of S3, who sets what Amazon's own tools take."""
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "x", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return monkeypatch


async def test_an_object_store_takes_a_result(tmp_path: Path) -> None:
    """Streamed through the spool, with its content type, read again for `verify`; the spool is empty afterwards."""
    place = Bucket("s3://films/of/mine", tmp_path / "spool", store=MemoryStore())
    async with standing(tmp_path, place=place) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        kept = await stand.keeper().keep(wanted)
        assert kept.stored_url == f"s3://films/of/mine/{wanted.task.id}/0.mp4"
        assert await verify(place, kept) is None
        assert stand.left() == []
        with pytest.raises(StorageError, match=r"cannot be read \(FileNotFoundError\)"):
            await anext(aiter(place.read("s3://films/of/mine/task_x/0.mp4")))
        await place.check()


async def test_s3_takes_a_large_one_in_parts(tmp_path: Path, aws: pytest.MonkeyPatch) -> None:
    """The real client, with Amazon's usual variables: parts of 5 MiB, then one object with its content type."""
    async with bucket() as found:
        aws.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{found.port}")
        place = Bucket("s3://films/pre", tmp_path / "spool")
        async with standing(tmp_path, place=place) as stand, serving(lambda asked: film(asked, LARGE)) as site:
            wanted = await stand.completed(url_of(site))
            kept = await stand.keeper().keep(wanted)
            path = f"/films/pre/{wanted.task.id}/0.mp4"
            assert found.objects == {path: LARGE}
            assert found.types == {path: "video/mp4"}
            assert sum("partNumber" in line for line in found.asked) == 3
            assert await verify(place, kept) is None
            await place.check()


async def test_what_s3_refuses_is_taken_back_and_not_fetched_again(tmp_path: Path, aws: pytest.MonkeyPatch) -> None:
    """The upload that was begun is aborted; the next attempt uploads what lies in the spool."""
    async with bucket(refuses_part=2) as found:
        aws.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{found.port}")
        place = Bucket("s3://films", tmp_path / "spool")
        async with standing(tmp_path, place=place) as stand, serving(lambda asked: film(asked, LARGE)) as site:
            wanted = await stand.completed(url_of(site))
            with pytest.raises(StorageError, match=r"cannot be written \(PermissionDeniedError\)"):
                await stand.keeper().keep(wanted)
            assert (found.objects, found.uploads) == ({}, {})
            assert any(line.startswith("DELETE") for line in found.asked)
            found.refuses_part = None
            await stand.keeper().keep(wanted)
            assert list(found.objects.values()) == [LARGE]
            assert len(site.asked) == 1


async def test_a_place_that_does_not_answer_in_time_says_so(tmp_path: Path) -> None:
    """A store that hangs is given up after the time that a result may take."""
    place = Bucket("s3://films", tmp_path, timeout_seconds=0.0, store=MemoryStore())
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(StorageError, match="no end in time"):
        await place.put("task_a/0.mp4", tmp_path / "x", None)


async def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()
    folder = Folder(f"file://{tmp_path}/file")
    with pytest.raises(StorageError, match="cannot be written"):
        await folder.check()
    good = Folder(f"file://{tmp_path}/new%20one")
    await good.check()
    assert (tmp_path / "new one").is_dir()
    assert good.url == f"file://{tmp_path}/new%20one"


def test_the_settings_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, a folder, a bucket whose spool lies beside the database; and what is missing is named."""
    database = f"sqlite:///{tmp_path}/r.db"
    assert open_place(Settings(database_url=database)) is None
    assert isinstance(open_place(Settings(database_url=database, results_url=f"file://{tmp_path}")), Folder)
    place = open_place(Settings(database_url=database, results_url="s3://films"))
    assert isinstance(place, Bucket)
    assert place.spool == tmp_path / "r.db.results"
    with pytest.raises(SettingsError, match="obstore does not take az://films"):
        open_place(Settings(database_url=database, results_url="az://films"))
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(SettingsError, match=r"gs:// needs obstore.*pip install 'ringback\[results\]'"):
        open_place(Settings(database_url=database, results_url="gs://films"))


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "folder", "/folder", "file://", "file:///", "file://host/folder", "file:relative", "http://x/y"),
        *("s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket?x=y", "s3://bucket/a b", "ftp://x/y"),
    ],
)
def test_a_url_that_names_no_place_is_refused(wrong: str) -> None:
    """What was expected is said, with where credentials belong."""
    with pytest.raises(ValueError, match="expected file:///absolute/folder"):
        results_url(wrong)


@pytest.mark.parametrize("url", ["file:///var/films", "s3://bucket", "gs://bucket/a/b", "az://container/x"])
def test_a_url_that_names_a_place_is_taken(url: str) -> None:
    """A slash at its end changes nothing."""
    assert results_url(f" {url}/ ") == url
