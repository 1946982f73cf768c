"""The download, against a local server and an archive made in Penn-Fudan's layout."""

import functools
import hashlib
import http.server
import io
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.downloads import HttpMirror, RemoteFile
from common.labels.pedestrians import read_pedestrians
from common.penn_fudan import FOLDER_NAME, PENN_FUDAN, PennFudanError, fetch_penn_fudan

ZIP_NAME = PENN_FUDAN.name
NOWHERE = "http://127.0.0.1:9/x.zip"
COUNTS = {"num_images": 4, "num_pedestrians": 6}


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def remote_of(path, url=NOWHERE):
    """Pin a local archive as it is, to be fetched from an address."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return RemoteFile(ZIP_NAME, path.stat().st_size, f"md5:{md5}", (HttpMirror(url, (1.0, 2.0)),))


def make_zip(path, url=NOWHERE, num_images=4, extra=None):
    """Write `num_images` pictures with 0, 1, 2 ... pedestrians, and pin the archive."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{FOLDER_NAME}/readme.txt", "text")
        for index in range(num_images):
            ids = np.zeros((20, 30), np.uint8)
            for person in range(index):
                ids[5:15, 5 * person : 5 * person + 4] = person + 1
            name = f"FudanPed{index:05d}"
            packed.writestr(f"{FOLDER_NAME}/PNGImages/{name}.png", png(np.stack([ids] * 3, axis=2)))
            packed.writestr(f"{FOLDER_NAME}/PedMasks/{name}_mask.png", png(ids))
        if extra:
            packed.writestr(extra, "gotcha")
    return remote_of(path, url)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "server"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield root, f"http://127.0.0.1:{running.server_address[1]}/{ZIP_NAME}"
        running.shutdown()
        thread.join()


def test_downloads_unpacks_and_works_offline_afterwards(server, tmp_path):
    root, url = server
    remote = make_zip(root / ZIP_NAME, url)
    folder = fetch_penn_fudan(tmp_path / "cache", remote=remote, **COUNTS)
    assert [len(one.objects) for one in read_pedestrians(folder).images] == [0, 1, 2, 3]
    (root / ZIP_NAME).unlink()
    assert fetch_penn_fudan(tmp_path / "cache", remote=remote, **COUNTS) == folder
    names = {p.name for p in (tmp_path / "cache").iterdir()}
    assert names - {f"{ZIP_NAME}.lock"} == {FOLDER_NAME, ZIP_NAME}


def test_cache_variable_and_zip_put_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    remote = make_zip(tmp_path / "mine" / ZIP_NAME)
    assert fetch_penn_fudan(remote=remote, **COUNTS) == tmp_path / "mine" / FOLDER_NAME


def test_the_archive_is_pinned():
    assert PENN_FUDAN.size == 53_723_336
    assert PENN_FUDAN.checksum == "MD5 5aaa3dee905cef73325923716e38fc6d"


def test_without_network_the_error_names_the_other_ways(tmp_path):
    remote = replace(PENN_FUDAN, mirrors=(HttpMirror(NOWHERE),))
    pattern = rf"(?s)127.0.0.1:9/x.zip: .*put it here by hand: .*{ZIP_NAME}.*--preset street"
    with pytest.raises(PennFudanError, match=pattern):
        fetch_penn_fudan(tmp_path, remote=remote)
    (tmp_path / ZIP_NAME).write_text("other")
    with (
        pytest.warns(UserWarning, match=f"does not have the MD5 .* moved to {ZIP_NAME}.wrong"),
        pytest.raises(PennFudanError, match=r"53,723,336 bytes, MD5 5aaa3dee"),
    ):
        fetch_penn_fudan(tmp_path, remote=remote)
    assert (tmp_path / f"{ZIP_NAME}.wrong").read_text() == "other"


def test_a_web_page_instead_of_the_archive_is_refused(server, tmp_path):
    root, url = server
    remote = make_zip(root / ZIP_NAME, url)
    (root / ZIP_NAME).write_bytes(b"<html>".ljust(remote.size))
    with pytest.raises(PennFudanError, match="sent an HTML page instead of the file"):
        fetch_penn_fudan(tmp_path / "cache", remote=remote)
    assert not (tmp_path / "cache" / ZIP_NAME).exists()
    (root / ZIP_NAME).unlink()
    with pytest.raises(PennFudanError, match="HTTP 404"):
        fetch_penn_fudan(tmp_path / "cache", remote=remote)


def test_other_counts_are_refused_and_nothing_is_left(tmp_path):
    remote = make_zip(tmp_path / ZIP_NAME)
    with pytest.raises(PennFudanError, match="4 images and 6 pedestrians instead of 170 and 423"):
        fetch_penn_fudan(tmp_path, remote=remote)
    assert [p.name for p in tmp_path.iterdir()] == [ZIP_NAME]


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:\\evil.txt"])
def test_archive_that_leaves_its_folder_is_refused(name, tmp_path):
    cache = tmp_path / "a" / "cache"
    cache.mkdir(parents=True)
    remote = make_zip(cache / ZIP_NAME, extra=name)
    with pytest.raises(PennFudanError, match="would leave its folder"):
        fetch_penn_fudan(cache, remote=remote, **COUNTS)
    assert not list(tmp_path.rglob("*.txt"))


def test_links_and_broken_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo(f"{FOLDER_NAME}/link")
    link.external_attr = 0o120777 << 16
    remote = make_zip(tmp_path / ZIP_NAME, extra=link)
    with pytest.raises(PennFudanError, match="link', which would leave"):
        fetch_penn_fudan(tmp_path, remote=remote)
    (tmp_path / ZIP_NAME).write_bytes(b"no archive")
    with pytest.raises(PennFudanError, match="is no intact ZIP archive"):
        fetch_penn_fudan(tmp_path, remote=remote_of(tmp_path / ZIP_NAME))
