"""What several files of tests share, made once in a run by whichever worker needs it first; the longest files come first."""

import os
import shutil

import pytest
from filelock import FileLock

# So that what is left at the end, when one worker has nothing more to do, is short.
LONGEST = ('test_reproduce', 'test_tutorials', 'test_whole_chain', 'test_training', 'test_recipe_search')


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    "once(name, make): a folder that make(folder) has filled, the same for all workers. Whoever changes it takes a copy."
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
    from mvssl.study.reproduce import Batch, make_stores

    return once('smoke stores', lambda root: make_stores(Batch('smoke', out=root), say=lambda text: None))


@pytest.fixture
def root(smoke_stores, tmp_path):
    "A root of one's own in which only the stores of the smoke profile are made."
    shutil.copytree(smoke_stores / 'data', tmp_path / 'root' / 'data')
    return tmp_path / 'root'
