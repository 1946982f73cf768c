"""Transfers over HTTP that go wrong, and copies from this machine."""

import hashlib
import socket
import time

import pytest

from common.downloads import HttpMirror, LocalCopy
from darknet.download import fetch

CONTENT = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "small.weights"


def test_dead_mirror_then_good_one(register, dead_url, assert_good):
    register(HttpMirror(dead_url), "good")
    assert_good(fetch(NAME, progress=False))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("html", "answered with an HTML page instead of the file"),
        ("html_as_binary", "sent an HTML page instead of the file"),
        ("short_of_length", "offers 1,000 bytes instead of 300,000"),
        ("cut", "IncompleteRead"),
        ("wrong", f"{hashlib.sha256(bytes(300_000)).hexdigest()} instead of SHA-256 {SHA256}"),
        ("missing", "HTTP 404 Not Found"),
        ("broken", "HTTP 503 Service Unavailable"),
        ("hanging", "timed out"),
        ("stalling", "timed out"),
    ],
)
def test_bad_mirror_is_reported_or_passed_over(
    register, server, cache, page, reason, assert_good, failure_of
):
    register(page)
    message = failure_of()
    assert f"{server.url}/{page}: " in message
    assert reason in message
    assert not (cache / NAME).exists()
    register(page, "good")
    assert_good(fetch(NAME, progress=False))


def test_silent_server_costs_no_more_than_its_timeout(register, failure_of):
    register("hanging")
    start = time.monotonic()
    failure_of()
    assert time.monotonic() - start < 3  # the read timeout is 0.5 s


def test_host_that_does_not_answer_the_connection(register, failure_of):
    """A listener with a full queue does not complete further connections, or refuses them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        register(HttpMirror(f"http://127.0.0.1:{address[1]}/x", (0.3, 0.3)))
        start = time.monotonic()
        message = failure_of()
        for one in waiting:
            one.close()
    assert time.monotonic() - start < 3
    assert "timed out" in message or "refused" in message  # as the system does it


def test_redirect_is_followed(register, server, assert_good):
    register("redirect")
    assert_good(fetch(NAME, progress=False))
    assert [path for path, _ in server.requests] == ["/redirect", "/good"]


def test_broken_transfer_is_continued_where_it_stopped(register, server, assert_good):
    register("cut_resumable")
    assert_good(fetch(NAME, progress=False))
    assert server.requests[0] == ("/cut_resumable", None)
    starts = [int(wanted[6:-1]) for _, wanted in server.requests[1:]]
    assert starts == sorted(set(starts)) and len(starts) >= 3  # at most 80,000 bytes a time


def test_server_without_ranges_starts_over(register, cache, assert_good):
    register("good")
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(CONTENT[:1234])
    assert_good(fetch(NAME, progress=False))


@pytest.mark.parametrize("left_over", [b"x" * 1234, b"x" * len(CONTENT), b"x" * 400_000])
@pytest.mark.parametrize("page", ["good", "cut_resumable"])
def test_bad_left_over_is_not_kept(register, cache, left_over, page, assert_good):
    register(page)
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(left_over)
    assert_good(fetch(NAME, progress=False))


def test_wrong_bytes_of_one_mirror_do_not_spoil_the_next(register, assert_good):
    register("wrong", "html", "stalling", "good")
    assert_good(fetch(NAME, progress=False))


def test_local_copy_is_verified(register, cache, tmp_path, assert_good, failure_of):
    installed = tmp_path / "installed.jpg"
    installed.write_bytes(CONTENT)
    register(LocalCopy(installed))
    assert_good(fetch(NAME, progress=False))
    (cache / NAME).unlink()
    installed.write_bytes(CONTENT[:-1])
    assert f"{installed}: sent 299,999 bytes instead of 300,000" in failure_of()


def test_progress_of_a_long_download_is_drawn_on_stderr_only(
    register, cache, dead_url, capsys, assert_good
):
    register(HttpMirror(dead_url), "unhurried")
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(CONTENT[:100_000])
    assert_good(fetch(NAME))
    drawn = capsys.readouterr()
    assert drawn.out == ""
    frames = drawn.err.replace("\n", "\r").strip("\r").split("\r")
    assert all(frame.startswith(f"{NAME}: ") for frame in frames)
    assert "300k/300k" in frames[-1]
    assert not any(" 0.00/300k" in frame for frame in frames)  # the bytes of before count


def test_quick_download_draws_nothing(register, capsys):
    register("good")
    fetch(NAME)
    assert capsys.readouterr() == ("", "")


def test_no_progress_is_silent(register, capsys):
    register("missing", "good")
    fetch(NAME, progress=False)
    assert capsys.readouterr() == ("", "")
