"""The command line as a user meets it: what it prints, where, and the exit status."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mvssl.cli import app, data, describe
from mvssl.dataset import DatasetWriter, MultiviewDataset

SETTINGS = dict(name='tiny', source='made up', licence='free', hz=10, stride=5, side=8, views=['left', 'right'])


@pytest.fixture
def store(tmp_path):
    with DatasetWriter(tmp_path/'tiny', **SETTINGS) as writer:
        for subject, action, n in (('S1', 'Eating', 3), ('S1', 'Walking', 4), ('S5', 'Walking', 5)):
            seen = np.ones((n, 2), bool)
            seen[0, 1] = False
            writer.add(subject, action, f'{action} 1', np.full((n, 2, 8, 8, 3), 9, 'uint8'), seen=seen)
    return tmp_path/'tiny'


def run(*words): return CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')


def row(text, *cells): return any(line.split() == [str(cell) for cell in cells] for line in text.splitlines())


def test_a_sound_store(store):
    result = run('data', 'check', store)
    assert result.exit_code == 0 and not result.stderr
    assert row(result.stdout, 'S1', 'S5', 'all') and row(result.stdout, 'Eating', 3, 0, 3) and row(result.stdout, 'Walking', 4, 5, 9) and row(result.stdout, 'all', 7, 5, 12)
    assert row(result.stdout, 'left', 'right') and row(result.stdout, 'S1', 7, 5) and row(result.stdout, 'S5', 5, 4) and row(result.stdout, 'all', 12, 9)
    assert 'labelled: 0 of 12 instants (0.0%)' in result.stdout and 'every byte' in result.stdout
    ds = MultiviewDataset.open(store)
    size = f'{ds.disk_bytes / 1000:.4g} kB'
    assert ds.checksum in result.stdout and f'12 instants x 2 views of 8 px at 10 Hz (stride 5), {size} on disk' in result.stdout


def test_share_of_labels(tmp_path):
    poses = np.full((4, 17, 3), np.nan, 'float32')
    poses[0] = np.linspace(0, 1700, 17)[:, None] * [0, 0, 1]
    with DatasetWriter(tmp_path/'tiny', **SETTINGS) as writer: writer.add('S1', 'Eating', 'Eating 1', np.ones((4, 2, 8, 8, 3), 'uint8'), poses)
    assert 'labelled: 1 of 4 instants (25.0%)' in describe(MultiviewDataset.open(tmp_path/'tiny'))


def test_a_damaged_frame(store):
    with open(store/'frames.npy', 'r+b') as file: file.seek(1000), file.write(b'x')
    result = run('data', 'check', store)
    assert result.exit_code == 1 and row(result.stdout, 'Walking', 4, 5, 9) and 'sound' not in result.stdout
    assert result.stderr.startswith('error: frames.npy, checksum: ') and 'make the store again' in result.stderr and result.stderr.count('\n') == 1
    quick = run('data', 'check', store, '--no-checksums')
    assert quick.exit_code == 0 and 'checksums not compared' in quick.stdout


def test_every_problem_is_a_line(store):
    os.truncate(store/'poses.npy', 200)
    (store/'seen.npy').unlink()
    result = run('data', 'check', store)
    assert result.exit_code == 1 and not result.stdout
    lines = result.stderr.splitlines()
    assert [line.split(':')[1].strip() for line in lines] == ['seen.npy, file', 'poses.npy, size'] and all(line.startswith('error: ') for line in lines)


@pytest.mark.parametrize('name, message', [('tyni', 'error: dataset.json, path: there is no folder'), ('new', 'new.partial is not finished. Run the command'),
                                           ('new.partial', 'new.partial is not finished. Run the command'), ('photos', 'error: dataset.json, file: missing in')])
def test_no_store(tmp_path, name, message):
    (tmp_path/'photos').mkdir()
    DatasetWriter(tmp_path/'new', **SETTINGS).close()
    result = run('data', 'check', tmp_path/name)
    assert result.exit_code == 1 and not result.stdout and message in result.stderr and result.stderr.count('\n') == 1


def test_slips(store):
    for words, message in ((['data', 'check'], 'Missing argument'), (['data', 'chek', store], "Did you mean 'check'"), (['data', 'check', store, '--fast'], 'No such option')):
        result = run(*words)
        assert result.exit_code == 2 and message in result.stderr and 'Traceback' not in result.output


def test_help_teaches(store):
    for words in ([], ['data']): assert 'check' in run(*words, '--help').stdout or 'data' in run(*words, '--help').stdout
    text = run('data', 'check', '--help').stdout
    for word in ('exit', 'status', 'mvssl data check PATH && mvssl train', '--no-checksums', 'Folder of the store'): assert word in text


def test_the_installed_script(store):
    script = Path(sys.executable).with_name('mvssl')
    assert script.exists() or shutil.which('mvssl')
    for path, status in ((store, 0), (store.with_name('tyni'), 1)):
        ran = subprocess.run([script if script.exists() else 'mvssl', 'data', 'check', path], capture_output=True, text=True)
        assert ran.returncode == status and 'Traceback' not in ran.stderr and 'checksums:' not in ran.stderr  # no bar without a terminal


def test_others_can_add_commands(store):
    @data.command()
    def hello(): print('hello')
    try: assert run('data', 'hello').stdout == 'hello\n' and run('data', 'check', store).exit_code == 0
    finally: data.registered_commands.pop()


def test_make_then_check_with_a_sheet(tmp_path):
    made = run('data', 'make', '--out', tmp_path/'stage', '--rig', 'stage', '--subjects', 'S7,S8', '--unlabelled', 1, '--instants', 24, '--side', 16)
    assert made.exit_code == 0 and row(made.stdout, 'Walking', 8, 8, 8, 24) and 'labelled: 16 of 24 instants (66.7%)' in made.stdout
    result = run('data', 'check', tmp_path/'stage', '--sheet', tmp_path/'sheet.png')
    assert result.exit_code == 0 and (tmp_path/'sheet.png').read_bytes()[:4] == b'\x89PNG'
    again = run('data', 'make', '--out', tmp_path/'stage', '--rig', 'stage', '--subjects', 'S7,S8', '--unlabelled', 1, '--instants', 24, '--side', 16)
    assert again.exit_code == 0, 'a finished store is opened, not refused'
    bad = run('data', 'check', tmp_path/'stage', '--sheet', tmp_path/'nowhere'/'sheet.png')
    assert bad.exit_code == 1 and '--sheet' in bad.stderr and not (tmp_path/'nowhere').exists()


@pytest.mark.parametrize('words, message', [
    (('--rig', 'garden'), "rig must be one of studio, stage, got 'garden'"), (('--side', 4), 'side must lie in [16, 512], got 4'),
    (('--instants', 3), 'instants must be at least 8'), (('--labels', 'some'), "labels must be 'named' or 'all', got 'some'")])
def test_make_refuses_in_one_line(tmp_path, words, message):
    result = run('data', 'make', '--out', tmp_path/'x', *words)
    assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
