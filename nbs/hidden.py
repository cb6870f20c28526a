"""Collapses in Lab what nbdev's `#| hide` keeps from readers, and nothing else: python nbs/hidden.py (see Makefile)."""

import re
from pathlib import Path

from execnb.nbio import read_nb, write_nb

NBS = Path(__file__).parent
HIDDEN = {'source_hidden': True}  # what Lab reads in a cell's metadata


def is_hidden(cell):
    "Whether a cell is kept from readers."
    source = ''.join(cell['source'])
    return cell['cell_type'] == 'code' and bool(re.search(r'^#\|\s*hide\b', source, re.M))


def collapse(nb):
    "Sets the metadata of all cells; whether anything was changed."
    changed = False
    for cell in nb['cells']:
        wanted = HIDDEN if is_hidden(cell) else None
        if cell['metadata'].get('jupyter') != wanted:
            changed = True
            cell['metadata'].pop('jupyter', None)
            if wanted:
                cell['metadata']['jupyter'] = dict(wanted)
    return changed


def main():
    for path in sorted(NBS.rglob('*.ipynb')):
        if '.ipynb_checkpoints' not in path.parts and collapse(nb := read_nb(path)):
            write_nb(nb, path)


if __name__ == '__main__':
    main()
