"""Makes README.md and nbs/README.md from the notebooks: python nbs/readme.py FOLDER (see `make readme`)."""

import posixpath
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

from mvssl.study.report import PARTS

NBS = Path(__file__).parent
IMAGES = 'nbs/images'
LINK = re.compile(r'(?<=\]\()(?!\w+:|#)[^)\s]+')  # the target of a relative Markdown link
TEMPLATE = """
{%- extends 'markdown/index.md.j2' -%}
{% block input %}
```python
{{ cell.source }}
```
{% endblock input %}
{% block data_png %}
![{{ output.metadata.alt or 'figure' }}]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock data_png %}
"""


def from_root(text):
    "`text` with links that lead from the root where they led from nbs/."
    return LINK.sub(lambda link: posixpath.normpath(f'nbs/{link[0]}'), text)


def prepare(nb, resources):
    "Honours nbdev's `#| hide` and `#| echo: false`, drops its other directives, turns links to the root."
    nb.cells = [cell for cell in nb.cells if not re.search(r'^#\|\s*hide\b', cell.source, re.M)]
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            cell.source = from_root(cell.source)
            continue
        cell.metadata.transient = {'remove_source': bool(re.search(r'^#\|\s*echo:\s*false', cell.source, re.M))}
        cell.source = re.sub(r'^#\|.*\n*', '', cell.source, flags=re.M)
        for output in cell.outputs:
            if 'text/markdown' in output.get('data', {}):
                output.data['text/markdown'] = from_root(output.data['text/markdown'])
    return nb, resources


def make_readme(folder):
    "Writes README.md and the pictures it shows under `folder`."
    exporter = MarkdownExporter(preprocessors=[prepare], raw_template=TEMPLATE)
    nb = nbformat.read(NBS / 'index.ipynb', as_version=4)
    text, resources = exporter.from_notebook_node(nb, {'unique_key': 'index', 'output_files_dir': IMAGES})
    (folder / 'README.md').write_text(re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', encoding='utf-8')
    for name, data in resources['outputs'].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


WINGS = {
    '.': 'the method',
    'ground': 'what all of it uses',
    'sources': 'where pictures come from',
    'show': 'pictures and pages',
    'study': "the paper's study",
    'commands': 'the command line',
}
INTRO = """# The notebooks

The library is written as notebooks; `mvssl/` is exported from them and never edited by hand. A notebook uses only
what those before it define, so they can be read in this order. `mvssl/` has the same folders.
[index](index.ipynb) is the front door.
"""


def sentence(path):
    "The line under the title, which every notebook of the library has."
    text = '\n'.join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'markdown')
    return re.search(r'^> (.*)', text, re.M)[1]


def title(path):
    "A notebook's first heading."
    text = '\n'.join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'markdown')
    return re.search(r'^#+ (.*)', text, re.M)[1]


def experiments():
    "Rows of a table: each experiment, the part of the paper that it regenerates, what it leaves."
    rows = ['| notebook | question | of the paper | leaves, in `figures/PROFILE-DATA/` |', '|---|---|---|---|']
    parts = {part.notebook: part for part in PARTS}
    for path in sorted((NBS / 'experiments').glob('*.ipynb')):
        part = parts.get(path.stem)
        leaves = ', '.join(f'`{name}`' for name in part.artefacts) if part else 'see there'
        source = part.source if part else 'ours'
        rows.append(f'| [{path.stem}](experiments/{path.name}) | {title(path)} | {source} | {leaves} |')
    return '\n'.join(rows)


def list_notebooks(folder):
    "Writes nbs/README.md under `folder`: every notebook, those of the library in reading order."
    rows = ['| folder | notebook | what it is about |', '|---|---|---|']
    for path in sorted(NBS.rglob('[0-9][0-9]_*.ipynb'), key=lambda path: path.name):
        name = path.relative_to(NBS).as_posix()
        if (wing := posixpath.dirname(name) or '.') in WINGS:
            rows.append(f'| {WINGS[wing]} | [{path.stem}]({name}) | {sentence(path)} |')
    lists = [INTRO, '\n'.join(rows)]
    tutorials = sorted((NBS / 'tutorials').glob('*.ipynb'))
    lines = [f'- [{path.stem}](tutorials/{path.name}): {title(path)}' for path in tutorials]
    lists += ['## Tutorials\n\n' + '\n'.join(lines), '## Experiments\n\n' + experiments()]
    (folder / 'nbs').mkdir(exist_ok=True)
    (folder / 'nbs' / 'README.md').write_text('\n\n'.join(part.strip() for part in lists) + '\n', encoding='utf-8')


if __name__ == '__main__':
    make_readme(Path(sys.argv[1]))
    list_notebooks(Path(sys.argv[1]))
