"""How Sphinx makes the site. The sources are written by `prepare.py`; see `build.py`."""

import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path.insert(0, str(BOOK))

from markdown_text import split  # noqa: E402
from repository import GITHUB, ROOT  # noqa: E402

project = split((ROOT / "README.md").read_text(encoding="utf-8")).title
html_title = project.partition(":")[0]
author = "Mikel Sagardia"
copyright = "Mikel Sagardia"
language = "en"
smartquotes_action = "qe"  # quotation marks and dots; --out stays an option

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.mathjax",
    "sphinxcontrib.bibtex",
    "glossary",
    "citations",
    "type_links",
    "accessible",
]
exclude_patterns = ["extra"]
nitpicky = True
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 4
myst_heading_slug_func = "markdown_text.slug"
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code and what it prints"
nb_code_prompt_hide = "Hide the code"
highlight_language = "text"  # a block that names no language is no Python
bibtex_bibfiles = [str(ROOT / "literature" / "references.bib")]
copybutton_exclude = ".linenos, .gp, .go"

pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
templates_path = [str(BOOK / "templates")]
html_theme = "furo"
html_static_path = [str(BOOK / "static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = str(BOOK / "static" / "favicon.svg")
html_copy_source = False
html_show_sphinx = False
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}
BLUE, LIGHT_BLUE = "#005a8e", "#6cbdf0"  # colour-blind-safe; contrast above 4.5 on their ground
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": BLUE,
        "color-brand-content": BLUE,
        "color-code-background": "#f6f7f9",  # a block of code is seen on a white page too
    },
    "dark_css_variables": {"color-brand-primary": LIGHT_BLUE, "color-brand-content": LIGHT_BLUE},
    "top_of_page_buttons": [],
    "footer_icons": [
        {
            "name": "GitHub",
            "url": GITHUB,
            "html": (BOOK / "static" / "github.svg").read_text(encoding="utf-8"),
            "class": "",
        }
    ],
}
