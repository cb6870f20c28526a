"""What Sphinx needs to know; the pages themselves are made by pages.py (see `make docs`)."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ini = ConfigParser(delimiters='=', interpolation=None)
ini.read(ROOT / 'settings.ini', encoding='utf-8')

project = 'mvssl'
author = ini['DEFAULT']['author']
copyright = f'{author}; Apache-2.0'
version = release = ini['DEFAULT']['version']

# Everything that a page asks for lies beside it: sphinx-mathjax-offline brings the formulas' script along.
extensions = ['myst_nb', 'sphinx.ext.mathjax', 'sphinx-mathjax-offline', 'sphinx_copybutton', 'sphinx_design']
html_theme = 'pydata_sphinx_theme'
html_theme_options = {
    'show_nav_level': 1,
    'navigation_with_keys': False,
    'navbar_end': ['theme-switcher'],
    'footer_start': ['copyright'],
    'footer_end': [],
    'secondary_sidebar_items': ['page-toc'],
}
html_title = 'mvssl'
html_context = {'default_mode': 'auto'}
smartquotes = False  # comments beside parameters hold code
html_static_path = ['static']
html_css_files = ['wide.css']
html_sidebars = dict.fromkeys(('index', 'nbs/index', 'command_line', 'differences'), [])
html_show_sourcelink = False
html_copy_source = False
exclude_patterns = ['figures/**']  # files that pages link to

nb_execution_mode = 'off'  # the notebooks come with their outputs
nb_merge_streams = True
myst_enable_extensions = ['dollarmath', 'colon_fence', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
suppress_warnings = ['mystnb.unknown_mime_type']
add_module_names = False
toc_object_entries_show_parents = 'hide'
