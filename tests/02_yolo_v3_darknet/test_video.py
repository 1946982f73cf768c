"""Films: read, detected in frame by frame, and written."""

import json

import cv2
import numpy as np
import pytest

import detect
import detect as detection_job
from common import video
from common.photos import PhotoError
from common.video import VideoSink, VideoSource

WIDTH, HEIGHT, FRAMES = 96, 64, 7


@pytest.fixture
def model(small_detector):
    files = [text for key, path in small_detector.items() for text in (f"--{key}", str(path))]
    return [*files, "--size", "64", "--device", "cpu"]


def gray_level(number):
    """Frames of one level each: a film's compression changes them little."""
    return 20 + 30 * number


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.avi"
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 10, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no films")
    for number in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), gray_level(number), np.uint8)
        frame[:, : WIDTH // 2, 0] = 250  # OpenCV's first channel: blue
        writer.write(frame)
    writer.release()
    return path


def test_source_gives_every_frame_in_rgb(film):
    source = VideoSource(film)
    assert (source.frame_count, source.frames_per_second) == (FRAMES, 10)
    frames = list(source)
    source.close()
    assert len(frames) == FRAMES
    for number, frame in enumerate(frames):
        assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
        assert frame[:, WIDTH // 2 + 20 :].mean() == pytest.approx(gray_level(number), abs=4)
        assert frame[:, :30, 2].mean() > 200  # blue is last


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "opened"), (b"a text, no film", "opened")],
)
def test_bad_films_are_named(tmp_path, content, message):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PhotoError, match=f"bad.mp4.*{message}"):
        VideoSource(path)


class FakeCapture:
    """A capture without a camera behind it."""

    def __init__(self, frames, rate=0.0, count=-1):
        self.frames, self.values = (
            list(frames),
            {
                cv2.CAP_PROP_FPS: rate,
                cv2.CAP_PROP_FRAME_COUNT: count,
                cv2.CAP_PROP_POS_MSEC: 0.0,
            },
        )
        self.released = False

    def isOpened(self):  # noqa: N802 (OpenCV's name)
        return True

    def get(self, what):
        return self.values[what]

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.released = True


def black(count):
    return [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * count


def fake_camera(monkeypatch, *arguments):
    capture = FakeCapture(*arguments)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source: capture)
    return capture


def test_camera_has_no_length_and_a_default_rate(monkeypatch):
    capture = fake_camera(monkeypatch, black(1), 0.0, 5)
    source = VideoSource(0)
    assert (source.name, source.frame_count, source.frames_per_second) == ("camera 0", None, 25)
    source.close()
    assert capture.released


def test_no_readable_frame_is_an_error(monkeypatch):
    fake_camera(monkeypatch, [])
    with pytest.raises(PhotoError, match="camera 3: no frame of it can be read"):
        list(VideoSource(3))


def test_sink_writes_what_source_reads(tmp_path):
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, 5)
    for number in range(3):
        sink.write(np.full((HEIGHT, WIDTH, 3), (gray_level(number), 0, 0), np.uint8))
        assert not path.exists()
    sink.close()
    source = VideoSource(path)
    frames = list(source)
    source.close()
    assert source.frames_per_second == 5 and len(frames) == 3
    for number, frame in enumerate(frames):
        assert frame[..., 0].mean() == pytest.approx(gray_level(number), abs=12)
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]


def test_sink_that_cannot_write_says_so_and_leaves_nothing(tmp_path):
    sink = VideoSink(tmp_path / "no folder" / "out.mp4", 5)
    with pytest.raises(OSError, match="out.mp4: OpenCV cannot write this video"):
        sink.write(black(1)[0])
    sink.close()
    assert not list(tmp_path.iterdir())


def test_sink_without_frames_makes_no_file(tmp_path):
    VideoSink(tmp_path / "out.mp4", 5).close()
    assert not list(tmp_path.iterdir())


def run(film, model, tmp_path, *options):
    target = tmp_path / "found.json"
    code = detect.main([str(film), *model, "--json", str(target), *options])
    return code, json.loads(target.read_text())


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_film_to_json(film, model, tmp_path, batch_size):
    code, records = run(film, model, tmp_path, "--batch-size", batch_size)
    assert code == 0
    assert [r["frame"] for r in records] == list(range(FRAMES))
    for record in records:
        assert list(record) == ["file", "width", "height", "frame", "detections"]
        assert (record["file"], record["width"], record["height"]) == (str(film), WIDTH, HEIGHT)
    counts = [len(record["detections"]) for record in records]
    assert sum(counts) > 0 and len(set(map(str, (r["detections"] for r in records)))) > 1


def test_annotated_film(film, model, tmp_path):
    out = tmp_path / "out"
    code, records = run(film, model, tmp_path, "--out", str(out))
    assert code == 0 and [path.name for path in out.iterdir()] == ["film.mp4"]
    before, after = VideoSource(film), VideoSource(out / "film.mp4")
    assert after.frames_per_second == 10
    pairs = list(zip(before, after, strict=True))
    before.close()
    after.close()
    assert len(pairs) == FRAMES
    for record, (old, new) in zip(records, pairs, strict=True):
        assert old.shape == new.shape
        if record["detections"]:
            assert np.abs(old.astype(int) - new).max() > 60


def test_a_film_is_not_written_over(film, model, tmp_path):
    content = film.read_bytes()
    copy = film.with_name("film_detected.mp4")
    copy.write_bytes(content)
    assert detect.main([str(film), str(copy), *model, "--out", str(tmp_path)]) == 0
    assert film.read_bytes() == copy.read_bytes() == content
    assert {"film_detected_2.mp4", "film_detected_detected.mp4"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_max_frames(film, model, tmp_path):
    code, records = run(film, model, tmp_path, "--max-frames", "3", "--batch-size", "2")
    assert code == 0 and [r["frame"] for r in records] == [0, 1, 2]


@pytest.mark.parametrize("said", [2, 4, 6])
def test_a_file_that_is_wrong_about_its_length(film, model, tmp_path, monkeypatch, said):
    fake_camera(monkeypatch, black(4), 10.0, said)
    code, records = run(film, model, tmp_path)
    assert code == 0 and len(records) == 4


def test_camera(model, tmp_path, monkeypatch):
    capture = fake_camera(monkeypatch, black(9))
    out = tmp_path / "out"
    code, records = run("0", model, tmp_path, "--max-frames", "4", "--out", str(out))
    assert code == 0 and capture.released
    assert [(r["file"], r["frame"]) for r in records] == [("camera 0", n) for n in range(4)]
    assert [path.name for path in out.iterdir()] == ["camera_0.mp4"]


def test_bad_film_does_not_stop_the_others(film, model, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"a text")
    target = tmp_path / "found.json"
    assert detect.main([str(bad), str(film), *model, "--json", str(target)]) == 1
    assert f"error: {bad}: cannot be opened as a video" in capsys.readouterr().err
    assert len(json.loads(target.read_text())) == FRAMES


def test_q_stops_and_keeps_the_film(film, model, tmp_path, monkeypatch):
    keys = [-1, -1, ord("q")]
    monkeypatch.setattr(cv2, "imshow", lambda title, image: None)
    monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: keys.pop(0))
    out = tmp_path / "out"
    code, records = run(film, model, tmp_path, "--show", "--out", str(out))
    assert code == 0 and len(records) == 3
    source = VideoSource(out / "film.mp4")
    assert len(list(source)) == 3
    source.close()


def test_ctrl_c_keeps_film_and_boxes(film, model, tmp_path, monkeypatch, capsys):
    original, calls = detection_job.annotate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(detection_job, "annotate", interrupted)
    out = tmp_path / "out"
    code, records = run(film, model, tmp_path, "--out", str(out))
    assert code == 2 and len(records) == 4
    assert "what was found so far is kept" in capsys.readouterr().err
    source = VideoSource(out / "film.mp4")
    assert len(list(source)) == 3
    source.close()
