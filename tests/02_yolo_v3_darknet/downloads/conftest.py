"""A server on the loopback that fails in every way seen in practice, and an empty cache."""

import contextlib
import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common import downloads as file_cache
from common.downloads import HttpMirror, RemoteFile
from darknet import download
from darknet.download import DownloadError, fetch

CONTENT = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "small.weights"


HTML = b"\n<!DOCTYPE html><html><body>The files have moved.</body></html>"


def send(handler, body, status=200, claimed=None, headers=()):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if claimed is None else claimed))
    handler.end_headers()
    handler.wfile.write(body)


def good(handler):
    send(handler, CONTENT)


def html(handler):
    send(handler, HTML, headers=[("Content-Type", "text/html; charset=utf-8")])


def html_as_binary(handler):
    """Without a length, so that only the contents give it away."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.end_headers()
    handler.wfile.write(HTML)


def short_of_length(handler):
    send(handler, CONTENT[:1000], claimed=1000)


def cut(handler):
    """Half of the bytes that the header promises, always from the start."""
    send(handler, CONTENT[: len(CONTENT) // 2], claimed=len(CONTENT))


def cut_resumable(handler):
    """At most 80,000 bytes a time, from where the client asks."""
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    status = 206 if "Range" in handler.headers else 200
    send(handler, CONTENT[start : start + 80_000], status, claimed=len(CONTENT) - start)


def wrong(handler):
    send(handler, bytes(len(CONTENT)))


def missing(handler):
    send(handler, HTML, status=404, headers=[("Content-Type", "text/html")])


def broken(handler):
    send(handler, b"", status=503)


def redirect(handler):
    page = [("Location", "/good"), ("Content-Type", "text/html")]
    send(handler, HTML, status=302, headers=page)


def hanging(handler):
    handler.server.released.wait(20)


def stalling(handler):
    """Half of the bytes, then silence with the connection open."""
    cut(handler)
    handler.wfile.flush()
    handler.server.released.wait(20)


def unhurried(handler):
    """The rest that the client asks for, over about a second."""
    start = int(handler.headers["Range"][6:-1])
    send(handler, CONTENT[start:200_000], 206, claimed=len(CONTENT) - start)
    handler.wfile.flush()
    time.sleep(0.4)
    for begin in range(200_000, len(CONTENT), 20_000):
        handler.wfile.write(CONTENT[begin : begin + 20_000])
        time.sleep(0.1)


def slow(handler):
    """The file in small pieces over about ten seconds, from where the client asks."""
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    send(handler, b"", 206 if start else 200, claimed=len(CONTENT) - start)
    for begin in range(start, len(CONTENT), 3000):
        handler.wfile.write(CONTENT[begin : begin + 3000])
        if handler.server.released.wait(0.1):
            return


def good_after_a_moment(handler):
    time.sleep(0.3)
    good(handler)


PAGES = {
    f"/{page.__name__}": page
    for page in (
        (good, html, html_as_binary, short_of_length, cut, cut_resumable, wrong, missing, broken)
        + (redirect, hanging, stalling, unhurried, slow, good_after_a_moment)
    )
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 - the name that http.server calls
        self.server.requests.append((self.path, self.headers.get("Range")))
        with contextlib.suppress(ConnectionError):  # the client gave up, as some tests want
            PAGES[self.path](self)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.requests = []
        server.released = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no proxy between the tests and the loopback."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(file_cache.CACHE_VARIABLE, str(folder))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


@pytest.fixture
def dead_url():
    """An address that refuses: the port was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/dead"


@pytest.fixture
def register(server, cache, monkeypatch):
    """Make `fetch(NAME)` try the given mirrors: pages of the server by name, or mirrors."""

    def set_mirrors(*listed):
        known = [
            HttpMirror(f"{server.url}/{mirror}", (1.0, 0.5)) if isinstance(mirror, str) else mirror
            for mirror in listed
        ]
        remote = RemoteFile(NAME, len(CONTENT), SHA256, tuple(known))
        monkeypatch.setitem(download.FILES, NAME, remote)

    return set_mirrors


@pytest.fixture
def assert_good(cache):
    """Check that a path is the final one in the cache, with the right contents."""

    def check(path):
        assert path == cache / NAME
        assert path.read_bytes() == CONTENT
        assert not (cache / f"{NAME}.part").exists()

    return check


@pytest.fixture
def failure_of():
    """Fetch the file, which must fail, and return the message."""

    def message():
        with pytest.raises(DownloadError) as caught:
            fetch(NAME, progress=False)
        return str(caught.value)

    return message
