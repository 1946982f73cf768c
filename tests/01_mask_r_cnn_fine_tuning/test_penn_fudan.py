"""The download, against a local server and an archive made in Penn-Fudan's layout."""

import functools
import hashlib
import http.server
import io
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataset import PedestrianDataset
from penn_fudan import FOLDER_NAME, ZIP_NAME, PennFudanError, cache_folder, fetch_penn_fudan


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path, num_images=4, extra=None):
    """Write `num_images` pictures with 0, 1, 2 ... pedestrians; return the checksum."""
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
    return "md5:" + hashlib.md5(path.read_bytes()).hexdigest()


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
    known_hash = make_zip(root / ZIP_NAME)
    options = {"url": url, "known_hash": known_hash, "num_images": 4, "num_pedestrians": 6}
    folder = fetch_penn_fudan(tmp_path / "cache", **options)
    dataset = PedestrianDataset(folder)
    assert [len(dataset[index][1]["labels"]) for index in range(4)] == [0, 1, 2, 3]
    (root / ZIP_NAME).unlink()
    assert fetch_penn_fudan(tmp_path / "cache", **options) == folder
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [FOLDER_NAME, ZIP_NAME]


def test_cache_variable_and_zip_put_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTION_SEGMENTATION_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    known_hash = make_zip(tmp_path / "mine" / ZIP_NAME)
    folder = fetch_penn_fudan(
        url="http://127.0.0.1:9/x.zip", known_hash=known_hash, num_images=4, num_pedestrians=6
    )
    assert folder == tmp_path / "mine" / FOLDER_NAME


def test_without_network_the_error_names_the_other_ways(tmp_path):
    pattern = rf"127.0.0.1:9/x.zip.*`laptop` preset.*put the file {ZIP_NAME} by hand into"
    with pytest.raises(PennFudanError, match=pattern):
        fetch_penn_fudan(tmp_path, url="http://127.0.0.1:9/x.zip")
    (tmp_path / ZIP_NAME).write_text("other")
    with pytest.raises(PennFudanError, match=r"is there, but its checksum is not md5:"):
        fetch_penn_fudan(tmp_path, url="http://127.0.0.1:9/x.zip")


def test_a_web_page_instead_of_the_archive_is_refused(server, tmp_path):
    root, url = server
    (root / ZIP_NAME).write_text("<html>moved</html>")
    with pytest.raises(PennFudanError, match="MD5 hash of downloaded file"):
        fetch_penn_fudan(tmp_path / "cache", url=url)
    assert not (tmp_path / "cache" / ZIP_NAME).exists()
    (root / ZIP_NAME).unlink()
    with pytest.raises(PennFudanError, match="404"):
        fetch_penn_fudan(tmp_path / "cache", url=url)


def test_other_counts_are_refused_and_nothing_is_left(tmp_path):
    known_hash = make_zip(tmp_path / ZIP_NAME)
    with pytest.raises(PennFudanError, match="4 images and 6 pedestrians instead of 170 and 423"):
        fetch_penn_fudan(tmp_path, known_hash=known_hash)
    assert [p.name for p in tmp_path.iterdir()] == [ZIP_NAME]


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:\\evil.txt"])
def test_archive_that_leaves_its_folder_is_refused(name, tmp_path):
    cache = tmp_path / "a" / "cache"
    cache.mkdir(parents=True)
    known_hash = make_zip(cache / ZIP_NAME, extra=name)
    with pytest.raises(PennFudanError, match="would leave its folder"):
        fetch_penn_fudan(cache, known_hash=known_hash, num_images=4, num_pedestrians=6)
    assert not list(tmp_path.rglob("*.txt"))


def test_links_and_broken_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo(f"{FOLDER_NAME}/link")
    link.external_attr = 0o120777 << 16
    known_hash = make_zip(tmp_path / ZIP_NAME, extra=link)
    with pytest.raises(PennFudanError, match="link', which would leave"):
        fetch_penn_fudan(tmp_path, known_hash=known_hash)
    (tmp_path / ZIP_NAME).write_bytes(b"no archive")
    known_hash = "md5:" + hashlib.md5(b"no archive").hexdigest()
    with pytest.raises(PennFudanError, match="is no intact ZIP archive"):
        fetch_penn_fudan(tmp_path, known_hash=known_hash)
