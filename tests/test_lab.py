"""Guards of what a reader meets in JupyterLab: links that open, notebooks that run, a checkout that stays clean."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import nbformat
import pytest

from browser import Browser, needs_chromium, until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(path for path in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts)
LINK = re.compile(r'\]\(([^)\s]+)\)')


def texts(path):
    "Everything in a notebook that Lab shows as text with links."
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == 'markdown':
            yield cell.source
        for output in cell.get('outputs', []):
            yield output.get('data', {}).get('text/markdown', '')


def opens_in_lab(page, link):
    "Whether Lab opens a link of `page`: to a file within the folder that it shows. Folders it does not open."
    target = (page.parent / link.partition('#')[0]).resolve()
    return target.is_file() and target.is_relative_to(ROOT)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_open_in_lab(path):
    links = [link for text in texts(path) for link in LINK.findall(text) if not re.match(r'\w+:|#', link)]
    assert [link for link in links if not opens_in_lab(path, link)] == []


def test_a_link_to_a_folder_is_seen():
    page = ROOT / 'nbs' / 'index.ipynb'
    assert (
        opens_in_lab(page, '../LICENSE')
        and not opens_in_lab(page, '../figures')
        and not opens_in_lab(page, 'gone.ipynb')
    )


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def repository(tmp_path_factory, smoke_study):
    "A clone of what is here, as a reader has it who has made the smallest study."
    at = tmp_path_factory.mktemp('lab') / 'mvssl'
    kept = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in kept.split('\0')[:-1]:
        if (ROOT / name).exists():
            (at / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, at / name)
    for made in ('data', 'runs'):
        shutil.copytree(smoke_study / made, at / made)
    return at


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


@pytest.fixture(scope='module')
def lab(repository):
    "Address of a Lab that shows the clone."
    port = free_port()
    address = f'http://127.0.0.1:{port}'
    words = re.search(r'^\t\$\(BIN\)/jupyter (lab .*)$', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.M)[
        1
    ].split()
    quiet = ['--no-browser', '--allow-root', f'--port={port}', '--IdentityProvider.token=', '--LabApp.news_url=']
    server = subprocess.Popen(
        [BIN / 'jupyter', *words, *quiet, '--LabApp.expose_app_in_browser=True'],
        cwd=repository,
        env=os.environ | dict(PYTHONPATH=str(repository)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers():
        assert server.poll() is None, 'Lab has ended'
        try:
            return json.load(urllib.request.urlopen(f'{address}/api'))
        except (URLError, ConnectionError):
            return None

    until(answers, 'Lab to answer')
    yield address
    server.terminate()
    server.wait(20)


@pytest.fixture(scope='module')
def browser():
    with Browser() as browser:
        yield browser


SHOWN = "[...(window.jupyterapp?.shell?.widgets('main') ?? [])].find(widget => widget.sessionContext)"


def opened(browser, lab, name):
    "A page of Lab that shows the notebook `name` and has a kernel for it."
    page = browser.open(f'{lab}/lab/tree/{name}?reset')
    page.wait_for("!!document.querySelector('.jp-Notebook .jp-Cell')")
    page.wait_for(f"({SHOWN})?.context?.isReady && ({SHOWN}).sessionContext?.session?.kernel?.status === 'idle'")
    page.value(f'jupyterapp.shell.activateById(({SHOWN}).id)')
    return page


ERRORS = f"""[...({SHOWN}).content.model.cells].filter(cell => cell.type === 'code')
    .flatMap(cell => cell.outputs.toJSON())
    .filter(output => output.output_type === 'error').map(output => output.evalue)"""
WIDE = """[...document.querySelectorAll('.jp-Notebook .jp-Cell')].filter(cell => {
    const page = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect()
    return cell.getBoundingClientRect().right > page.right + 1 }).length"""


@needs_chromium
@pytest.mark.parametrize('name', ['nbs/index.ipynb', 'nbs/40_loss.ipynb', 'nbs/experiments/2_margin_ablation.ipynb'])
def test_a_notebook_runs_in_lab(browser, lab, name):
    page = opened(browser, lab, name)
    page.value("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
    assert page.value(ERRORS) == []
    assert page.value(WIDE) == 0
    # Lab says so of cells that it draws late, on a machine that has other work
    no_error = ('favicon', 'did not appear within')
    assert [text for text in page.complaints if not any(known in text for known in no_error)] == []


@needs_chromium
def test_reading_leaves_nothing_to_export(browser, lab, repository):
    "Opening and saving rewrites the notebook's metadata; what `make test` looks at is the same."
    name = 'nbs/41_sampler.ipynb'
    before, kept = (repository / name).read_bytes(), contents(repository)
    page = opened(browser, lab, name)
    page.value(f'({SHOWN}).context.save().then(() => true)')
    assert (repository / name).read_bytes() != before
    assert contents(repository) == kept


def contents(root):
    "What the Makefile compares before and after an export."
    done = subprocess.run(
        [sys.executable, ROOT / 'nbs' / 'contents.py', root], capture_output=True, text=True, check=True
    )
    return done.stdout
