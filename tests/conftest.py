"""What several files of tests share, made once in a run by whichever worker needs it first; longest files first."""

import os
import shutil
import signal

import nbformat
import pytest
from experiments_fixture import EXPERIMENTS, FAKE, command
from filelock import FileLock
from nbformat.v4 import new_code_cell
from small_films import long_walk, two, walk  # noqa: F401 (fixtures)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for what is run in the background; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# So that what is left at the end, when one worker has nothing more to do, is short.
LONGEST = ('test_reproduce', 'test_tutorials', 'test_whole_chain', 'test_training', 'test_recipe_search')


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    "once(name, make): a folder that make(folder) has filled, the same for all workers. To be changed, it is copied."
    home = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        home = home.parent  # that of the whole run

    def once(name, make):
        folder, made = home / 'once' / name, home / 'once' / f'{name}.made'
        made.parent.mkdir(exist_ok=True)
        with FileLock(made.with_suffix('.lock')):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # half of it, by a worker that failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope='session')
def smoke_stores(once):
    "A root with the stores of the smoke profile."
    from mvssl.study.reproduce import Study, make_stores

    return once('smoke stores', lambda root: make_stores(Study('smoke', out=root), say=lambda text: None))


@pytest.fixture(scope='session')
def smoke_study(once):
    "A root in which the command has made all of the smoke profile; MVSSL_SMOKE names one. To be changed: copied."

    def make(root):
        if 'MVSSL_SMOKE' in os.environ:
            shutil.copytree(os.environ['MVSSL_SMOKE'], root, dirs_exist_ok=True)
            return
        done = command('reproduce', '--profile', 'smoke', '--out', root)
        assert done.returncode == 0, done.stdout + done.stderr

    return once('smoke study', make)


@pytest.fixture
def root(smoke_stores, tmp_path):
    "A root of one's own in which only the stores of the smoke profile are made."
    shutil.copytree(smoke_stores / 'data', tmp_path / 'root' / 'data')
    return tmp_path / 'root'


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    "A folder of experiments whose training pretends; a test adds analyses."
    folder = tmp_path / 'experiments'
    nb = nbformat.read(EXPERIMENTS / 'train.ipynb', as_version=4)
    last = next(i for i, cell in enumerate(nb.cells) if 'batch.folder_of' in cell.source)
    nb.cells[last + 1 :] = [new_code_cell(FAKE.replace('raise SystemExit\n', ''))]
    folder.mkdir()
    nbformat.write(nb, folder / 'train.ipynb')
    monkeypatch.setenv('MVSSL_NOTEBOOKS', str(folder))
    return folder
