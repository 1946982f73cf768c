"""Own classes for the drawn scenes: people by the side from which they are seen."""

import json
from pathlib import Path

from common.command import write_json

VIEW_CLASSES = (
    "front view",
    "back view",
    "side view",
    "car",
    "bicycle",
    "dog",
    "traffic light",
)


def write_views(scenes: Path) -> Path:
    """Write `views.json` beside a folder's `annotations.json`: VIEW_CLASSES instead of five.

    Boxes, masks and pictures are the same; a person's class is the view of them.

    Raises:
        ValueError: the scenes were drawn before views were noted.
    """
    content = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in content["categories"]}
    for one in content["annotations"]:
        name = names[one["category_id"]]
        if name == "person" and "view" not in one:
            raise ValueError(f"{scenes}: drawn without views; delete it to have it drawn again")
        own = f"{one['view']} view" if name == "person" else name
        one["category_id"] = VIEW_CLASSES.index(own) + 1
    content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(VIEW_CLASSES)]
    path = scenes / "views.json"
    write_json(path, content)
    return path
