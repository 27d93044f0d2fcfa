"""How Sphinx builds the site: `make docs`, or `sphinx-build -W docs build/docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent / "src"))

from bitproof import __version__  # noqa: E402

project = "bitproof"
author = "bitproof developers"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "bitproof_site",
]
exclude_patterns = ["_ext"]
templates_path: list[str] = []
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme = "furo"
html_title = "bitproof"
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b5394",
        "color-brand-content": "#0b5394",
    },
    "dark_css_variables": {
        "color-brand-primary": "#8ab4f8",
        "color-brand-content": "#8ab4f8",
    },
}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "off"  # stored outputs are shown; the tests execute the notebooks
nb_merge_streams = True

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 90
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = [
    "config.cache",
    "ref.python",  # names in signatures that are public in two subpackages
]
