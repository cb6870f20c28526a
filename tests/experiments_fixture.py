"""Made-up experiments: notebooks that look like those of the study and take no time."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

EXPERIMENTS = Path(__file__).parents[1] / 'nbs' / 'experiments'
MVSSL = Path(sys.executable).parent / 'mvssl'


def command(*words, **environment):
    "Runs `mvssl` with these words."
    return subprocess.run([MVSSL, *map(str, words)], capture_output=True, text=True, env=os.environ | environment)


def edited(source, target, *cells, after):
    "A copy of a notebook with more code cells after the first one that contains `after`."
    nb = nbformat.read(source, as_version=4)
    at = next(i for i, cell in enumerate(nb.cells) if cell.cell_type == 'code' and after in cell.source) + 1
    nb.cells[at:at] = map(new_code_cell, cells)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, target)


ANALYSIS = """
import os
import pandas as pd
from mvssl.study.batch import Study
from mvssl.runs import save_table
batch = Study(profile, data, second_data, out)
run = batch.open_run(NAME, dict(seed=seed))
print('threads', os.environ['OMP_NUM_THREADS'])
"""


PARAMETERS = "profile: str = 'smoke'\ndata: str = 'synthetic'\nsecond_data: str = ''\nout: str = ''\nseed: int = 0"


def analysis(folder, name, *cells):
    "A made-up analysis that saves a small table, or does what the cells do."
    nb = nbformat.v4.new_notebook(
        cells=[
            new_code_cell(PARAMETERS, metadata=dict(tags=['parameters'])),
            new_code_cell(ANALYSIS.replace('NAME', repr(name))),
            *map(new_code_cell, cells),
            new_code_cell(f"save_table(pd.DataFrame(dict(a=[1])), 'made_by_{name[0]}', run)\nrun.finish({{}})"),
        ],
        metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')),
    )
    nbformat.write(nb, folder / f'{name}.ipynb')


FAKE = """
import json
from mvssl.runs import open_run
run.folder.parent.mkdir(parents=True, exist_ok=True)
with open_run(run.folder, dict(name=run.name), resume=True) as fake: fake.finish(dict(steps=1))
(run.folder/'errors.csv').write_text('weights')
raise SystemExit
"""
