"""What lies in the cache folder before, during and after a download."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pooch
import pytest

from common import downloads as file_cache
from common.downloads import HttpMirror, LocalCopy
from darknet import download
from darknet.download import fetch

CONTENT = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "small.weights"


def test_file_is_fetched_once_and_then_used_without_network(register, server, assert_good):
    register("good")
    assert_good(fetch(NAME, progress=False))
    server.requests.clear()
    assert_good(fetch(NAME, progress=False))
    assert server.requests == []


def test_cached_file_needs_no_mirror_at_all(register, cache, monkeypatch, assert_good):
    register()
    cache.mkdir()
    (cache / NAME).write_bytes(CONTENT)

    def no_network(*arguments, **settings):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_network)
    assert_good(fetch(NAME))


def test_complete_left_over_is_used_without_network(register, server, cache, assert_good):
    register("missing")
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(CONTENT)
    assert_good(fetch(NAME))
    assert server.requests == []


CHILD = """
import sys
from darknet import download
from common.downloads import HttpMirror, RemoteFile
name, size, sha256, url = sys.argv[1:]
download.FILES[name] = RemoteFile(name, int(size), sha256, (HttpMirror(url),))
download.fetch(name)
"""


def test_killed_download_is_continued_by_the_next_run(register, server, cache, assert_good):
    url = f"{server.url}/slow"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, NAME, str(len(CONTENT)), SHA256, url],
        cwd=Path(download.__file__).parents[1],
        stderr=subprocess.DEVNULL,
    )
    part = cache / f"{NAME}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 0):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not (cache / NAME).exists()
    size = part.stat().st_size
    assert 0 < size < len(CONTENT)
    assert part.read_bytes() == CONTENT[:size]

    server.requests.clear()
    register("cut_resumable")
    assert_good(fetch(NAME, progress=False))
    assert server.requests[0] == ("/cut_resumable", f"bytes={size}-")


def test_two_callers_at_once_download_once(register, server, cache, assert_good, capsys):
    register("good_after_a_moment")
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(NAME))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cache / NAME] * 2
    assert_good(results[0])
    assert len(server.requests) == 1
    assert f"Waiting for another process to finish {NAME}" in capsys.readouterr().err


def test_wrong_file_in_the_cache_is_reported_kept_aside_and_replaced(register, cache, assert_good):
    register("good")
    cache.mkdir()
    (cache / NAME).write_bytes(b"my own experiment")
    with pytest.warns(UserWarning, match=f"{NAME} does not have the SHA-256 {SHA256}") as caught:
        path = fetch(NAME, progress=False)
    assert caught[0].filename == __file__
    assert_good(path)
    assert (cache / f"{NAME}.wrong").read_bytes() == b"my own experiment"


def test_wrong_file_never_stays_under_the_final_name(register, cache, failure_of):
    register("missing")
    cache.mkdir()
    (cache / NAME).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="moved to"):
        failure_of()
    assert not (cache / NAME).exists()


def test_failure_lists_every_mirror_and_the_way_out(register, server, cache, dead_url, failure_of):
    absent = LocalCopy(cache / "elsewhere" / NAME)
    register(absent, HttpMirror(dead_url), "html", "missing", "wrong", "cut")
    message = failure_of()
    lines = message.splitlines()
    assert lines[0] == f"{NAME} could not be fetched. Tried:"
    assert lines[1] == f"  - {absent.path}: not on this machine"
    assert lines[2].startswith(f"  - {dead_url}: ") and "refused" in lines[2]
    tried = [f"  - {server.url}/{page}: " for page in ("html", "missing", "wrong", "cut")]
    assert all(line.startswith(start) for line, start in zip(lines[3:7], tried, strict=True))
    assert lines[7] == f"Get it elsewhere and put it here by hand: {cache / NAME}"
    assert lines[8] == f"(300,000 bytes, SHA-256 {SHA256})"


def test_file_put_there_by_hand_is_taken(register, assert_good, failure_of):
    register("missing")
    path = Path(failure_of().split("by hand: ")[1].splitlines()[0])
    path.write_bytes(CONTENT)
    assert_good(fetch(NAME))


def test_cache_folder_that_is_a_file(register, cache, failure_of):
    register("good")
    cache.write_text("not a folder")
    message = failure_of()
    assert str(cache) in message and "DETECTION_SEGMENTATION_CACHE" in message


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_read_only_cache(register, server, cache, monkeypatch, code, failure_of):
    register("good")
    cache.mkdir()
    original = Path.open

    def refuse(path, mode="r", *arguments, **settings):
        if path.parent == cache and mode != "rb":
            raise OSError(code, os.strerror(code), str(path))
        return original(path, mode, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    message = failure_of()
    assert f"cannot use the cache folder {cache}" in message
    assert os.strerror(code) in message and "DETECTION_SEGMENTATION_CACHE" in message
    assert server.requests == []


def test_full_disk_is_an_error_of_the_cache_not_of_the_mirror(
    register, server, cache, monkeypatch, failure_of
):
    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    register("good", "good")
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    assert "No space left" in failure_of()
    assert not (cache / NAME).exists()


def test_cache_folder_follows_the_environment(cache, monkeypatch):
    assert download.cache_dir() == cache
    monkeypatch.setenv(file_cache.CACHE_VARIABLE, "")
    assert download.cache_dir() == pooch.os_cache("detection_segmentation")
    monkeypatch.setenv(file_cache.CACHE_VARIABLE, "~/elsewhere")
    assert download.cache_dir() == Path.home() / "elsewhere"
