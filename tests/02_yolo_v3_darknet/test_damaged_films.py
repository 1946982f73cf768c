"""Films with damaged frames, cut-off films, and what their files say about their length."""

import json
from itertools import islice

import cv2
import numpy as np
import pytest

import detect
from common import video
from common.photos import PhotoError
from common.video import VideoSource, is_video

FRAMES, SIZE = 40, (64, 48)


def write_film(path, code="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, SIZE)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no such films")
    noise = np.random.default_rng(0).integers(-9, 10, (*SIZE[::-1], 3))  # or the JPEGs are tiny
    for number in range(FRAMES):
        writer.write((noise + 10 + 5 * number).astype(np.uint8))
    writer.release()
    return path


def pictures(content):
    """Where the JPEGs of a film begin."""
    starts, place = [], content.find(b"\xff\xd8\xff")
    while place >= 0:
        starts.append(place)
        place = content.find(b"\xff\xd8\xff", place + 3)
    return starts


def damage(path, numbers):
    """Overwrite frames of a film whose frames are JPEGs."""
    content = bytearray(path.read_bytes())
    starts = pictures(content)
    assert len(starts) == FRAMES
    for number in numbers:
        content[starts[number] : starts[number] + 300] = bytes(300)
    path.write_bytes(content)


def read(path):
    source = VideoSource(path)
    try:
        return [number for number, _ in source.numbered()], source
    finally:
        source.close()


@pytest.mark.parametrize("lost", [[5], [0], [7, 8, 9], [3, 20, 37]])
@pytest.mark.parametrize("ending", ["avi", "mkv"])
def test_the_frames_after_a_damaged_one_are_read(tmp_path, lost, ending):
    path = write_film(tmp_path / f"film.{ending}")
    damage(path, lost)
    numbers, source = read(path)
    assert numbers == [number for number in range(FRAMES) if number not in lost]
    assert (source.lost, source.missing) == (lost, 0)
    what = "frames" if len(lost) > 1 else "frame"
    shown = ", ".join(map(str, lost))
    assert source.problems() == [f"{path}: {what} {shown} (from 0) cannot be read; the others were"]


def test_many_damaged_frames_are_summed_up(tmp_path):
    path = write_film(tmp_path / "film.avi")
    damage(path, range(10, 18))
    (line,) = read(path)[1].problems()
    assert "frames 10, 11, 12, 13, 14 and 3 more (from 0) cannot be read" in line


def test_each_frame_has_the_picture_of_its_number(tmp_path):
    path = write_film(tmp_path / "film.avi")
    damage(path, [4, 6])
    source = VideoSource(path)
    for number, frame in source.numbered():
        assert frame.mean() == pytest.approx(10 + 5 * number, abs=2)
    source.close()


@pytest.mark.parametrize("last", [1, 2])
def test_the_very_end_is_an_end(tmp_path, last):
    path = write_film(tmp_path / "film.avi")
    damage(path, range(FRAMES - last, FRAMES))
    numbers, source = read(path)
    assert numbers == list(range(FRAMES - last)) and source.problems() == []


@pytest.mark.parametrize("ending", ["avi", "mkv"])
def test_a_film_that_is_cut_off(tmp_path, ending):
    path = write_film(tmp_path / f"film.{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: pictures(content)[25]])
    numbers, source = read(path)
    assert numbers == list(range(25)) and source.missing == 15
    assert source.problems() == [f"{path}: is cut off: of 40 frames 15 are missing at the end"]


def test_whole_films_have_no_problems(tmp_path):
    for name, code in (("a.avi", "MJPG"), ("b.mp4", "mp4v"), ("c.mkv", "mp4v")):
        numbers, source = read(write_film(tmp_path / name, code))
        assert numbers == list(range(FRAMES)) and source.problems() == []


class Capture:
    """Frames at times of their own, as cameras of phones take them; None is a damaged one."""

    def __init__(self, times, count, rate=10.0):
        self.times, self.now = list(times), 0.0
        self.values = {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: count}

    def isOpened(self):  # noqa: N802 (OpenCV's name)
        return True

    def get(self, what):
        return self.now if what == cv2.CAP_PROP_POS_MSEC else self.values[what]

    def read(self):
        time = self.times.pop(0) if self.times else None
        self.now = time or 0.0
        return (False, None) if time is None else (True, np.zeros((4, 4, 3), np.uint8))

    def release(self):
        pass


def played(monkeypatch, tmp_path, times, count):
    (tmp_path / "film.webm").touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source: Capture(times, count))
    return read(tmp_path / "film.webm")


def test_frames_that_do_not_follow_evenly(monkeypatch, tmp_path):
    """The file says 100 frames, 10 s at 10 a second; there are 40 in these 10 s."""
    numbers, source = played(monkeypatch, tmp_path, np.linspace(1, 9900, 40), 100)
    assert numbers == list(range(40)) and source.problems() == []
    _, source = played(monkeypatch, tmp_path, np.linspace(1, 5000, 40), 100)
    assert source.missing == 49


def test_one_failure_may_be_many_frames(monkeypatch, tmp_path):
    """Where frames follow evenly, the clock tells how many; else each failure is one."""
    numbers, source = played(monkeypatch, tmp_path, [0.1, 100, None, 700, 800], 9)
    assert numbers == [0, 1, 7, 8] and source.lost == [2, 3, 4, 5, 6]
    numbers, source = played(monkeypatch, tmp_path, [0.1, 500, 900, None, 1700, 1800], 19)
    assert numbers == [0, 1, 2, 4, 5] and source.lost == [3]


def test_a_file_that_does_not_say_its_length(monkeypatch, tmp_path):
    numbers, source = played(monkeypatch, tmp_path, [1, 100, None, None, 400, 500], -1)
    assert numbers == [0, 1, 4, 5] and source.lost == [2, 3] and source.missing == 0


def test_a_camera_goes_on_after_a_lost_picture(monkeypatch):
    def capture(source):
        return Capture([1, 100, None, 300, *[None] * 5, 900, *[None] * 6, 1500], 0)

    monkeypatch.setattr(video.cv2, "VideoCapture", capture)
    numbers, source = read(0)
    assert numbers == [0, 1, 3, 9] and source.lost == [2, 4, 5, 6, 7, 8]
    assert source.problems() == [
        "camera 0: frames 2, 4, 5, 6, 7 and 1 more (from 0) cannot be read; the others were",
        "camera 0: gives no more pictures; is it still plugged in?",
    ]
    source = VideoSource(0)
    assert len(list(islice(source, 3))) == 3  # stopped by who asked for three
    assert source.problems() == ["camera 0: frame 2 (from 0) cannot be read; the others were"]


def test_a_frame_that_the_model_fails_on_is_one_frame(
    small_detector, tmp_path, monkeypatch, capsys
):
    original = detect.Detector.preprocess

    def picky(self, photos):
        if any(43 < photo.mean() < 47 for photo in photos):  # frame 7, see write_film
            raise RuntimeError("not enough memory")
        return original(self, photos)

    monkeypatch.setattr(detect.Detector, "preprocess", picky)
    path, target = write_film(tmp_path / "film.avi"), tmp_path / "found.json"
    files = [text for key, file in small_detector.items() for text in (f"--{key}", str(file))]
    options = [*files, "--device", "cpu", "--batch-size", "4", "--json", str(target)]
    assert detect.main([str(path), *options]) == 1
    frames = [record["frame"] for record in json.loads(target.read_text())]
    assert frames == [number for number in range(FRAMES) if number != 7]
    errors = capsys.readouterr().err
    assert errors.count(f"error: {path}, frame 7: not enough memory") == 1


def test_a_film_without_a_good_frame(monkeypatch, tmp_path):
    with pytest.raises(PhotoError, match="film.webm: no frame of it can be read"):
        played(monkeypatch, tmp_path, [None] * 5, 5)
    assert played(monkeypatch, tmp_path, [1], 1)[0] == [0]


def test_a_part_of_a_film_has_no_problems(tmp_path):
    source = VideoSource(write_film(tmp_path / "film.avi"))
    assert len(list(islice(source, 3))) == 3 and source.problems() == []
    source.close()


def test_the_command_says_what_is_lost(small_detector, tmp_path, capsys):
    path, target = write_film(tmp_path / "film.avi"), tmp_path / "found.json"
    damage(path, [5])
    files = [text for key, file in small_detector.items() for text in (f"--{key}", str(file))]
    options = [*files, "--size", "64", "--device", "cpu", "--batch-size", "4"]
    assert detect.main([str(path), *options, "--json", str(target), "--max-frames", "20"]) == 1
    frames = [record["frame"] for record in json.loads(target.read_text())]
    assert frames == [number for number in range(21) if number != 5]
    captured = capsys.readouterr()
    assert f"error: {path}: frame 5 (from 0) cannot be read; the others were" in captured.err
    assert f"{path}: 20 frames" in captured.out


def test_endings_of_films():
    for ending in "3gp 3G2 mts M2TS ts ogv FLV mp4 MOV".split():
        assert is_video(f"clip.{ending}")
