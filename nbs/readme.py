"""Makes README.md and its pictures from index.ipynb: python nbs/readme.py FOLDER (see `make readme`)."""

import posixpath
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

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


if __name__ == '__main__':
    make_readme(Path(sys.argv[1]))
