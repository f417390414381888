"""The site of the documents: `make docs` builds it into `build/site`.

Its sources are the Markdown files where they lie, so that every link works in the repository too.
"""

import re

import ganseg_jax

project = "ganseg_jax"
author = "the authors of ganseg_jax"
copyright = "the authors of ganseg_jax, MIT licence"
version = release = ganseg_jax.__version__

# The source folder is the repository.
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "configs/README.md",
    "docs/**",
    "experiments/results/**",
]
exclude_patterns = [".*", "build", "workdirs", "data", "docs/_*"]
# Tables that programs write; the README beside them shows them.
exclude_patterns += ["experiments/results/*/[a-z]*.md"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# A README may begin below the first level.
suppress_warnings = ["myst.header"]

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # Words before a colon are not always a type.
napoleon_attr_annotations = False  # The class's line has them; reST stumbles over "*b d".
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "ganseg_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "to_index.html"}
templates_path = ["_templates"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
pygments_style, pygments_dark_style = "default", "github-dark"


def _plain_types(app, what, name, obj, options, signature, returns):
    """Shows a shape as `Float[Array, "n s s 3"]`, without the modules."""

    def plain(text: str | None) -> str | None:
        return text and re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)

    return plain(signature), plain(returns)


def _as_written(app, what, name, obj, options, lines):
    """Keeps what docstrings mean by `|x|` and `a * b`; in reST they are marks."""
    parts = re.compile(r"(`+[^`]*`+)")
    lines[:] = [
        "".join(
            part if part.startswith("`") else re.sub(r"([|*\\])", r"\\\1", part)
            for part in parts.split(line)
        )
        for line in lines
    ]


def setup(app):
    """Connects what changes signatures and docstrings, the latter before napoleon reads them."""
    app.connect("autodoc-process-signature", _plain_types)
    app.connect("autodoc-process-docstring", _as_written, priority=100)
