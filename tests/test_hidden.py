"""Guards of what is kept from readers: `#| hide` cells are collapsed in Lab, all of them and no others."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location('hidden', ROOT / 'nbs' / 'hidden.py')
hidden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hidden)
NOTEBOOKS = sorted(path for path in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_hidden_cells_are_collapsed_in_lab_and_no_others(path):
    assert not hidden.collapse(read_nb(path)), 'run: make notebooks'


def test_what_is_hidden_is_told_from_what_speaks_of_it():
    def cell(source, kind='code'):
        return dict(cell_type=kind, source=source, metadata={})

    nb = dict(cells=[cell(['#| hide\n', 'import os']), cell('#| export\nx = "#| hide"'), cell('#| hide', 'markdown')])
    assert [hidden.is_hidden(one) for one in nb['cells']] == [True, False, False]
    assert hidden.collapse(nb) and not hidden.collapse(nb)
    assert re.search(r'^allowed_cell_metadata_keys = .*\bjupyter\b', (ROOT / 'settings.ini').read_text(), re.M)


def test_a_reader_who_unfolds_a_cell_has_nothing_to_export(tmp_path):
    "Lab saves what is unfolded; what `make test` compares is the same."

    def contents():
        words = [sys.executable, ROOT / 'nbs' / 'contents.py', tmp_path]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    (tmp_path / 'nbs').mkdir()
    path = tmp_path / 'nbs' / '40_loss.ipynb'
    path.write_bytes((ROOT / 'nbs' / path.name).read_bytes())
    before, nb = contents(), json.loads(path.read_text(encoding='utf-8'))
    next(cell for cell in nb['cells'] if hidden.is_hidden(cell))['metadata'] = dict(jupyter=dict(source_hidden=False))
    path.write_text(json.dumps(nb), encoding='utf-8')
    assert contents() == before
    nb['cells'][-1]['metadata'] = dict(tags=['parameters'])
    path.write_text(json.dumps(nb), encoding='utf-8')
    assert contents() != before
