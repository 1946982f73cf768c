"""How a folder of pictures and masks may be built.

    my_data/images/0001.jpg     pictures of any format
    my_data/masks/0001.png      one mask each, of the same name, or 0001_mask.png and the like
    my_data/classes.json        what the masks hold, see `table_files`

or the same inside `train/`, `val/`, `test/` or lists of other names, where one class table above
serves all. Other names of the two folders that are in common use are known as well, in capital or
small letters, and so are `images/train` with `masks/train`, CamVid's `train` with `trainannot`,
Pascal VOC's `ImageSets/Segmentation/train.txt`, Roboflow's masks beside the pictures, and a folder
for each picture with a mask for each object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.findings import DataError
from common.masks.layout import (
    BESIDE,
    CAMVID,
    NUCLEI,
    OBJECTS,
    PENN_FUDAN,
    VOC,
    Layout,
    Listing,
    is_of_objects,
    list_tables,
)
from common.masks.lists import SPLIT_NAMES, find_list_files, read_list
from common.masks.pairs import match_names, pictures_in, split_beside
from common.masks.wrong_folders import no_layout

IMAGE_FOLDERS = tuple(
    """images PNGImages JPEGImages img imgs image image_dir img_dir frames frame photos photo
    pictures picture rgb input inputs original original_images leftImg8bit""".split()
)
MASK_FOLDERS = tuple(
    """masks SemanticMasks SegmentationClass labels annotations mask label SegmentationClassPNG
    SegmentationClassAug annotation annots annot ann_dir mask_dir gt ground_truth groundtruth
    segmentation segmentations semantic seg segs target targets label_images""".split()
)
NUMBERED_FOLDERS = {"PedMasks": PENN_FUDAN, "NucleusMasks": NUCLEI}  # of objects' numbers
# Of CamVid's folders, behind the name of the list.
MASK_TAILS = tuple(
    sign + word
    for word in "annot annotations labels label masks mask gt".split()
    for sign in ("", "_", "-")
)
UNREAD_SHOWN = 5


def find_layout(folder: Path, mask_folders: Sequence[str] = MASK_FOLDERS) -> Layout:
    """See how a folder is built.

    Raises:
        DataError: it does not exist, holds no such layout, or several.
    """
    if not folder.is_dir():
        raise DataError(f"the folder {folder} does not exist")
    ways = list(_whole(folder, mask_folders))
    inside = _unread(folder, ways)
    if not any(way.form == OBJECTS for way in ways):
        ways += [*_camvid(folder, inside), *_divided(folder, inside, mask_folders)]
    if not ways:
        raise DataError(no_layout(folder, IMAGE_FOLDERS, mask_folders))
    layout = _only(folder, ways)
    unread = [one.name for one in _unread(folder, [layout]) if _holds_pictures(one)]
    if layout.form == OBJECTS or not unread:
        return layout
    shown = [*unread[:UNREAD_SHOWN], *(["..."] if len(unread) > UNREAD_SHOWN else [])]
    note = f"folders with pictures that are not read: {', '.join(shown)}"
    return replace(layout, notes=(*layout.notes, note))


def find_splits(folder: Path) -> tuple[str, ...]:
    """Name the lists that a folder is divided into; none for a folder that is not divided.

    Raises:
        DataError: see `find_layout`.
    """
    return find_layout(folder).names


def _only(folder: Path, ways: Sequence[Layout]) -> Layout:
    if len(ways) > 1:
        listed = ", or ".join(way.about for way in ways)
        raise DataError(
            f"{folder} can be read in {len(ways)} ways: {listed}. Move what is not meant elsewhere"
        )
    return ways[0]


def _unread(folder: Path, ways: Sequence[Layout]) -> list[Path]:
    """Return the folders in a folder that no list of the layouts lies in."""
    read = [path for way in ways for one in way.lists.values() for path in (one.images, one.masks)]
    return [
        one for one in _subfolders(folder) if not any(path.is_relative_to(one) for path in read)
    ]


def _whole(folder: Path, mask_folders: Sequence[str]) -> Iterator[Layout]:
    """Yield the ways to read a folder that has no folder for each list in it."""
    pairs = _folder_pairs(folder, mask_folders)
    if not pairs:
        pairs = _folder_pairs(folder, tuple(NUMBERED_FOLDERS))
    yield from pairs
    pictures, masks = split_beside(pictures_in(folder))
    if masks and match_names(pictures, masks)[0]:
        listing = Listing(folder, folder, list_tables(folder))
        yield Layout(f"pictures and masks in {folder}", BESIDE, {"": listing})
    if is_of_objects(folder):
        listing = Listing(folder, folder, list_tables(folder), objects=True)
        yield Layout(f"a folder for each picture in {folder}", OBJECTS, {"": listing})


def _folder_pairs(folder: Path, mask_folders: Sequence[str]) -> list[Layout]:
    """Return a layout for each pair of a folder of pictures and one of masks."""
    images = [one for one in _named(folder, IMAGE_FOLDERS) if _holds_pictures(one)]
    masks = [one for one in _named(folder, mask_folders) if _holds_pictures(one)]
    return [_folder_pair(folder, image, mask) for image in images for mask in masks]


def _folder_pair(folder: Path, images: Path, masks: Path) -> Layout:
    voc = masks.name.lower().startswith("segmentationclass")
    numbered = {name.lower(): form for name, form in NUMBERED_FOLDERS.items()}
    form = numbered.get(masks.name.lower(), f"{images.name}/ and {masks.name}/")
    form = VOC if voc else form
    whole = Listing(images, masks, list_tables(folder, masks))
    pictures = pictures_in(images)
    lists, notes = _named_lists(whole, pictures) if pictures else _folder_lists(whole)
    return Layout(f"{images.name} and {masks.name}", form, lists or {"": whole}, tuple(notes))


def _named_lists(whole: Listing, pictures: Sequence[Path]) -> tuple[dict[str, Listing], list[str]]:
    """Return the lists that text files name, as those of Pascal VOC do, and notes."""
    folder = whole.images.parent
    sets = _named(folder, ("ImageSets",))
    places = [two for one in sets for two in _named(one, ("Segmentation",))]
    files = find_list_files([*places, *sets, *_named(folder, ("splits", "lists"))], folder)
    stems = {name: [stem for _, line in read_list(path) for stem in line]
             for name, path in files.items()}  # fmt: skip
    notes = [f"the list {path} is empty and is not used"
             for name, path in files.items() if not stems[name]]  # fmt: skip
    lists = {
        _list_name(path): replace(whole, names=path) for name, path in files.items() if stems[name]
    }
    if lists:
        known = {stem for some in stems.values() for stem in some}
        left = [one for one in pictures if one.stem not in known]
        if left:
            notes.append(f"{len(left)} pictures of {whole.images} are in no list and are not used")
    return lists, notes


def _folder_lists(whole: Listing) -> tuple[dict[str, Listing], list[str]]:
    """Return the lists that lie in folders of one name below the pictures and the masks."""
    masks = {one.name.lower(): one for one in _subfolders(whole.masks) if pictures_in(one)}
    images = {one.name.lower(): one for one in _subfolders(whole.images) if pictures_in(one)}
    lists = {
        _list_name(images[name]): replace(
            whole,
            images=images[name],
            masks=masks[name],
            tables=((images[name], masks[name]), *whole.tables),
        )
        for name in images
        if name in masks
    }
    notes = [f"the list {images[name].name} is not used: it has no masks"
             for name in images if name not in masks]  # fmt: skip
    notes += [f"the list {masks[name].name} is not used: it has no pictures"
              for name in masks if name not in images]  # fmt: skip
    return lists, notes


def _camvid(folder: Path, inside: Sequence[Path]) -> Iterator[Layout]:
    """Yield CamVid's layout: for each list a folder `train` and one `trainannot` or the like."""
    by_name = {one.name.lower(): one for one in inside if pictures_in(one)}
    lists = {}
    for name, images in by_name.items():
        masks = next((by_name[name + tail] for tail in MASK_TAILS if name + tail in by_name), None)
        if masks is not None:
            lists[_list_name(images)] = Listing(
                images, masks, ((images, masks), *list_tables(folder))
            )
    if lists:
        about = ", ".join(f"{one.images.name} and {one.masks.name}" for one in lists.values())
        yield Layout(about, CAMVID, lists)


def _divided(folder: Path, inside: Sequence[Path], mask_folders: Sequence[str]) -> Iterator[Layout]:
    """Yield the layout of a folder that has a folder for each list."""
    ways = {one: list(_whole(one, mask_folders)) for one in inside}
    found = {one: _only(one, some) for one, some in ways.items() if some}
    if len(found) == 1 and len(next(iter(found.values())).names) > 1:
        yield from found.values()  # an unpacked archive: the data is one folder deeper
    elif found:
        several = next((one for one, layout in found.items() if len(layout.lists) > 1), None)
        if several is not None:
            names = ", ".join(one.name for one in found)
            raise DataError(
                f"{folder} holds several data sets ({names}), and {several} has lists of its own: "
                "choose one of the folders"
            )
        lists = {_list_name(one): layout.first for one, layout in found.items()}
        notes = tuple(note for layout in found.values() for note in layout.notes)
        form = next(iter(found.values())).form
        yield Layout(f"the lists {', '.join(lists)}", form, lists, notes)


def _list_name(path: Path) -> str:
    """Return a list's name; a usual one in small letters, however it is written."""
    return path.stem.lower() if path.stem.lower() in SPLIT_NAMES else path.stem


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders in a folder that have one of the names, in any letters."""
    order = {name.lower(): place for place, name in enumerate(names)}
    found = [one for one in _subfolders(folder) if one.name.lower() in order]
    return sorted(found, key=lambda one: order[one.name.lower()])


def _holds_pictures(folder: Path) -> bool:
    return bool(pictures_in(folder)) or any(pictures_in(one) for one in _subfolders(folder))
