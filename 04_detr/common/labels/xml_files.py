"""Parse XML label files: safely, in their declared encoding, with the line of each element."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from common.labels.values import AnnotationError, number
from common.text_files import MARKS

DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,400}\?>")
LARGER = {"gb2312": "gb18030", "gbk": "gb18030"}  # tools declare less than they write
EXPAT_ENCODINGS = ("utf-8", "utf8", "utf-16", "us-ascii", "ascii", "iso-8859-1")
HEAD_BYTES = 4000
ROOT = re.compile(r"<\s*([A-Za-z_][\w.-]{0,60})")


class Element(ET.Element):
    """An XML element that knows the line it starts on."""

    line = 0


def parse_xml(path: Path) -> Element:
    """Parse an XML file into elements that know their lines.

    Document type declarations are refused: they can define entities that grow without bound or
    name other files, and no annotation needs one.

    Raises:
        AnnotationError: unreadable, not well-formed, or with a DOCTYPE; with its line if it has.
    """
    parser = expat.ParserCreate()
    builder = ET.TreeBuilder(element_factory=Element)

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, attributes).line = parser.CurrentLineNumber

    def refuse(*_: object) -> None:
        raise AnnotationError("a DOCTYPE is not allowed", parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(_as_utf8(path.read_bytes()), True)
        return builder.close()
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}") from error
    except AnnotationError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        line = getattr(error, "lineno", parser.CurrentLineNumber)
        raise AnnotationError(f"no valid XML: {error}", line) from error


def _as_utf8(raw: bytes) -> bytes:
    """Return the text in an encoding that the parser knows.

    Raises:
        AnnotationError: the encoding that the file declares is not known, or is not the file's.
    """
    match = DECLARED.match(raw[:HEAD_BYTES])
    encoding = match[1].decode("ascii") if match else "utf-8"
    mark, marked = next((one for one in MARKS if raw.startswith(one[0])), (b"", None))
    if marked is None and encoding.lower() in EXPAT_ENCODINGS:
        return raw
    raw = raw[len(mark) :]
    try:  # what a mark says is true, whatever the file declares
        text = raw.decode(marked or LARGER.get(encoding.lower(), encoding))
    except LookupError as error:
        raise AnnotationError(f"the encoding {encoding!r} is not known", 1) from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        told = "as its mark says" if marked else "which the file declares"
        message = f"the text is not in {marked or encoding}, {told}; save it as UTF-8"
        raise AnnotationError(message, line) from error
    declaration = DECLARATION.match(text)
    if declaration is None:
        return text.encode()
    return (declaration[0].count("\n") * "\n" + text[declaration.end() :]).encode()


def root_tag(path: Path) -> str:
    """Return the name of a file's first element without parsing it; "" where none is found."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("latin-1")
    except OSError:
        return ""
    head = re.sub(r"<!--.*?(-->|$)", "", head.replace("\x00", ""), flags=re.DOTALL)
    match = ROOT.search(head)
    return match[1] if match else ""


def text_of(element: ET.Element | None) -> str:
    """Return an element's text without white space around it; "" for None."""
    return "" if element is None else (element.text or "").strip()


def number_in(element: Element, key: str) -> float:
    """Return the number that a sub-element holds.

    Raises:
        AnnotationError: it is missing, or no number.
    """
    found = element.find(key)
    if found is None:
        raise AnnotationError(f"<{key}> is missing")
    return number(text_of(found), f"<{key}>")
