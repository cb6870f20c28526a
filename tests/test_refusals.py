"""What a user can mend is one line and exit status 1, wherever it happens; what is ours keeps its traceback."""

import ctypes
import errno
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mvssl import runs, training
from mvssl.cli import app
from mvssl.dataset import DatasetWriter
from mvssl.refusal import DatasetError, Problem, Refusal
from mvssl.skeleton import PARENTS

FAST = (
    '--steps',
    2,
    '--width',
    8,
    '--pairs',
    4,
    '--labelled-images',
    4,
    '--validation',
    'Subject 2',
    '--test',
    'none',
    '--set',
    'log_every=1',
    '--set',
    'validate_every=2',
    '--device',
    'cpu',
)
PEOPLE = ('S1', 'Subject 2', 'Doe, Jane')


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')


def poses(n, rng):
    "People of a kind, standing: bones of any direction, but heads above feet."
    at = np.zeros((n, 17, 3), 'float32')
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            continue
        bone = rng.normal(size=(n, 3))
        at[:, joint] = at[:, parent] + 150 * bone / np.linalg.norm(bone, axis=-1, keepdims=True)
    at[..., 2] += np.where(np.isin(np.arange(17), (3, 6)), -800, np.where(np.arange(17) == 10, 700, 0))
    return at


def make_store(path, side=32, **more):
    rng = np.random.default_rng(0)
    with DatasetWriter(
        path,
        **dict(name='tiny', source='made up', licence='free', hz=10, stride=5, side=side, views=['left', 'right'])
        | more,
    ) as writer:
        for subject in PEOPLE:
            for take in ('1', '2'):
                writer.add(
                    subject,
                    'Walking',
                    f'Walking {take}',
                    rng.integers(1, 255, (16, 2, side, side, 3), 'uint8'),
                    poses(16, rng),
                )
    return Path(path)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A store, a run, pictures, embeddings, and the many things that are none of these."
    at = tmp_path_factory.mktemp('refusals')
    make_store(at / 'store')
    done = call('train', '--data', at / 'store', '--run', at / 'run', *FAST)
    assert done.exit_code == 0, done.output
    (at / 'photos').mkdir()
    Image.fromarray(np.full((40, 40, 3), 99, 'uint8')).save(at / 'photos' / 'a.png')
    (at / 'broken').mkdir()
    (at / 'broken' / 'a.png').write_bytes(b'no picture')
    (at / 'empty').mkdir()
    (at / 'file').write_text('x')
    (at / 'weights.safetensors').write_bytes(b'x' * 100)
    (at / 'z.npz').write_bytes(b'PK\x03\x04 no archive')
    (at / 'names.json').write_text('{')
    (at / 'list.csv').write_text('file;subject\n')
    (at / 'begun').mkdir()
    (at / 'begun' / 'config.json').write_text('{}')
    (at / 'damaged').mkdir()
    for name in ('config.json', 'provenance.json'):
        (at / 'damaged' / name).write_text('{"mar')
    shutil.copytree(at / 'store', at / 'cut')
    with open(at / 'cut' / 'frames.npy', 'r+b') as file:
        file.truncate(1000)
    shutil.copytree(at / 'store', at / 'edited')
    (at / 'edited' / 'dataset.json').write_text(
        (at / 'store' / 'dataset.json').read_text().replace('"hz": 10', '"hz": "ten"')
    )
    shutil.copytree(at / 'store', at / 'latin')
    (at / 'latin' / 'dataset.json').write_bytes('{"name": "Jürgen"}'.encode('latin-1'))
    (at / 'bvh').mkdir()
    (at / 'bvh' / '7_1.bvh').write_text('HIERARCHY\nROOT Hips\n{\n')
    (at / 'clips').mkdir()
    (at / 'clips' / 'left.mp4').write_bytes(b'no video')
    (at / 'clips' / 'right.mp4').write_bytes(b'no video')
    return at


def is_refused(result, *said):
    "Exit status 1 and lines that begin with `error:`, no traceback, and what it must say."
    shown = result.output + (''.join(map(str, [result.exception])) if result.exception else '')
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), shown
    lines = [line for line in result.stderr.splitlines() if not line.startswith(('note: ', 'warning: '))]
    assert lines and all(line.startswith('error: ') for line in lines) and 'Traceback' not in result.output, shown
    for text in said:
        assert text in result.stderr, f'{text!r} is not in: {shown}'


# ---- a walk through the command line ---------------------------------------------------------------------------------

TRAIN, EMBED = (
    ('train', '--data', 'store', '--run', 'new', *FAST),
    ('embed', '--run', 'run', '--data', 'store', '--out', 'new.npz'),
)
SCORE, ATLAS = ('score', '--run', 'run', '--data', 'store'), ('atlas', 'run', '--data', 'store', '--out', 'new.html')
SEARCH = ('search', '--query', '0:left', '--database', 'store', '--run', 'run')
REPRODUCE, STATUS = (
    ('reproduce', '--profile', 'smoke', '--out', 'out'),
    ('status', '--profile', 'smoke', '--out', 'out'),
)
MAKE, MOCAP, VIDEOS = (
    ('data', 'make', '--out', 'new'),
    ('data', 'mocap', 'bvh', '--out', 'new'),
    ('data', 'videos', 'clips', '--out', 'new'),
)
H36M, M3DHP = ('data', 'human36m', 'empty', '--out', 'new'), ('data', 'mpi-inf-3dhp', 'empty', '--out', 'new')


def changed(words, **options):
    "The words with options replaced or added; a positional one by its name in capitals."
    words = list(words)
    for option, value in options.items():
        if option.isupper():
            words[words.index({'BVH': 'bvh', 'CLIPS': 'clips', 'RUN': 'run', 'RAW': 'empty'}[option])] = value
        else:
            flag = '-k' if option == 'k' else '--' + option.replace('_', '-')
            if flag in words and option != 'set':
                words[words.index(flag) + 1] = value
            else:
                words += [flag, value]
    return words


WALK = [
    # a store that is none
    *(
        (changed(words, **{option: other}), said)
        for words, option in ((TRAIN, 'data'), (SCORE, 'data'), (ATLAS, 'data'))
        for other, said in (
            ('nowhere', 'there is no folder'),
            ('file', 'there is no folder'),
            ('empty', 'dataset.json'),
            ('cut', 'frames.npy, size'),
            ('edited', "hz: 'ten'"),
            ('latin', 'not JSON'),
        )
    ),
    *(
        (changed(EMBED, data=other), said)
        for other, said in (
            ('nowhere', 'there is no folder'),
            ('file', 'there is no folder'),
            ('empty', 'has neither'),
            ('cut', 'frames.npy, size'),
            ('broken', 'a.png is no picture'),
        )
    ),
    *(
        (changed(SEARCH, database=other), said)
        for other, said in (
            ('nowhere', 'there is no folder'),
            ('file', 'there is no folder'),
            ('empty', 'is neither'),
            ('cut', 'frames.npy, size'),
        )
    ),
    *(
        (('data', 'check', other), said)
        for other, said in (
            ('nowhere', 'there is no folder'),
            ('file', 'there is no folder'),
            ('empty', 'missing in'),
            ('cut', 'frames.npy, size'),
            ('edited', "hz: 'ten'"),
            ('latin', 'not JSON'),
        )
    ),
    # a run that is none
    *(
        (changed(words, **{option: other}), said)
        for words, option in ((EMBED, 'run'), (SCORE, 'run'), (ATLAS, 'RUN'), (SEARCH, 'run'))
        for other, said in (
            ('nowhere', 'there is nothing at'),
            ('empty', 'there is no weights.safetensors'),
            ('begun', 'it is not finished'),
            ('weights.safetensors', 'save_weights wrote'),
            ('file', 'save_weights wrote'),
            ('x' * 300, 'too long'),
        )
    ),
    # places that cannot be written
    *(
        (changed(words, **{option: other}), said)
        for words, option, ending in (
            (EMBED, 'out', '.npz'),
            (SCORE, 'out', '.csv'),
            (SEARCH, 'out', '.html'),
            (SEARCH, 'out', '.png'),
            (SEARCH, 'csv', '.csv'),
            (ATLAS, 'out', '.html'),
        )
        for other, said in (
            (f'file/new{ending}', 'lies under a file'),
            (f'folder{ending}', 'is a folder, and a file is to be written'),
            ('new.what', 'must end in'),
            ('x' * 300 + ending, 'too long'),
        )
    ),
    *(
        (changed(TRAIN, run=other), said)
        for other, said in (
            ('file', 'is a file, and a folder is wanted'),
            ('file/run', 'lies under a file'),
            ('photos', 'which is something else'),
            ('run', 'is a finished run'),
            ('x' * 300, 'too long'),
        )
    ),
    ((*changed(TRAIN, run='damaged'), '--resume'), 'config.json is damaged'),
    *(
        (('data', 'check', 'store', '--sheet', other), said)
        for other, said in (
            ('none/a.png', 'there is no folder'),
            ('file/a.png', 'there is no folder'),
            ('folder.png', 'is a folder'),
            ('a.what', 'must end in'),
        )
    ),
    *(
        (changed(words, out=other), said)
        for words in (MAKE,)
        for other, said in (
            ('file', 'exists and is no store'),
            ('file/new', 'lies under a file'),
            ('photos', 'exists and is no store'),
            ('store', 'is a finished store'),
            ('x' * 300, 'too long'),
        )
    ),
    *(
        (changed(REPRODUCE, out=other), said)
        for other, said in (('file', 'lies under a file'), ('file/out', 'lies under a file'))
    ),
    # devices
    *(
        (changed(words, device=other), '--device must be cpu')
        for words in (TRAIN, EMBED, SCORE, ATLAS, SEARCH, MAKE)
        for other in ('gpu', 'cuda:99', 'cuda:x', 'meta')
    ),
    # options of train
    *(
        (changed(TRAIN, **{option: value}), said)
        for option, value, said in (
            ('arm', 'best', 'arm must be'),
            ('steps', 0, 'steps must be'),
            ('steps', -3, 'steps must be'),
            ('lr', 'nan', 'lr must be'),
            ('lr', -1, 'lr must be'),
            ('lr', 'inf', 'lr must be'),
            ('width', 0, 'width must be'),
            ('pairs', 1, '--pairs must'),
            ('margin', 'nan', 'margin must'),
            ('beta', -1, 'beta must'),
            ('beta', 'nan', 'beta must'),
            ('alpha', 'inf', 'alpha must'),
            ('labelled', 'S99', 'labelled must'),
            ('test', 'S1', 'test must'),
            ('unlabelled', 'none,S1', 'unlabelled must'),
            ('fraction', 2, '--fraction must'),
            ('fraction', 'nan', '--fraction must'),
            ('start', 'nowhere', 'start must'),
            ('start', 'weights.safetensors', 'save_weights wrote'),
            ('start', 'photos', 'start must'),
            ('pool', 'nowhere', 'there is no folder'),
            ('set', 'what=1', '--set must be'),
            ('set', 'chunk', '--set must be'),
            ('set', 'chunk=two', 'chunk must be'),
            ('set', 'compile=maybe', 'compile must be'),
            ('set', 'grey=7', 'grey must'),
            ('set', 'precision=fp8', 'precision must'),
            ('set', 'seed=1e400', 'seed must be'),
            ('set', 'dim=0', 'dim must'),
            ('set', 'norm=layer', 'norm must'),
            ('set', 'new_takes=9', 'new_takes must'),
            ('set', 'seed=-1', 'seed must'),
            ('pairs', 100000, '--pairs'),
            ('labelled_images', 0, '--labelled-images must'),
        )
    ),
    # options of the others
    *(
        (changed(SCORE, **{option: value}), said)
        for option, value, said in (('by', 'colour', 'by must be'), ('subjects', 'S99', "no 'S99'"))
    ),
    *(
        (changed(SEARCH, **{option: value}), said)
        for option, value, said in (
            ('k', 0, 'k must lie'),
            ('k', 10**6, 'k must lie'),
            ('apart', -1, 'apart_s'),
            ('apart', 'nan', 'apart_s'),
            ('views', 'all', 'views must'),
            ('subjects', 'all', 'subjects must'),
            ('query', 'x' * 300, 'too long'),
            ('query', 'nowhere.jpg', 'there is no such file'),
            ('query', '9999:left', 'must name an instant'),
            ('query', '0:top', 'must name a view'),
            ('query', 'nowhere:0:left', 'there is no folder'),
            ('query', 'file', 'is no picture'),
            ('query', 'photos', 'query must be'),
            ('query', '', 'query must be'),
            ('embeddings', 'z.npz', 'cannot be read'),
            ('embeddings', 'nowhere.npz', 'there is none'),
            ('embeddings', 'photos', 'there is none'),
        )
    ),
    *(
        (changed(ATLAS, **{option: value}), said)
        for option, value, said in (
            ('max_images', 1, 'max_images must'),
            ('k', 0, '-k must'),
            ('subjects', 'S99', "no 'S99'"),
        )
    ),
    *(
        (changed(MAKE, **{option: value}), said)
        for option, value, said in (
            ('rig', 'attic', 'rig must'),
            ('side', 4, 'side must'),
            ('instants', 1, 'instants must'),
            ('labels', 'some', 'labels must'),
            ('subjects', 'S1,S1', 'subjects must'),
            ('unlabelled', -1, 'unlabelled must'),
            ('workers', 0, 'workers must'),
            ('clutter', -1, 'clutter must'),
            ('seed', -1, 'seed must'),
        )
    ),
    *(
        (changed(MOCAP, **{option: value}), said)
        for option, value, said in (
            ('BVH', 'nowhere', 'nowhere'),
            ('BVH', 'empty', 'empty'),
            ('BVH', 'file', 'file'),
            ('out', 'new', '7_1.bvh'),
            ('names', 'names.json', 'names.json'),
            ('index', 'nowhere.csv', 'nowhere.csv'),
            ('index', 'list.csv', 'list.csv'),
            ('hz', 0, 'hz must'),
            ('hz', 'nan', 'hz must'),
            ('up', 'w', 'up must'),
            ('unit_mm', 0, 'unit_mm must'),
        )
    ),
    *(
        (changed(VIDEOS, **{option: value}), said)
        for option, value, said in (
            ('CLIPS', 'nowhere', 'nowhere'),
            ('CLIPS', 'empty', 'empty'),
            ('CLIPS', 'list.csv', 'list.csv'),
            ('out', 'new', 'left.mp4'),
            ('hz', 0, 'hz must'),
            ('side', 4, 'side must'),
            ('keypoint_size', 'big', '--keypoint-size must'),
            ('sheet', 'a.what', '--sheet'),
            ('padding', 0, 'padding must'),
            ('boxes', 'nowhere', 'nowhere'),
        )
    ),
    *((changed(words, RAW=other), other) for words in (H36M, M3DHP) for other in ('nowhere', 'empty', 'file')),
    *(
        (changed(words, **{option: value}), said)
        for words in (H36M, M3DHP)
        for option, value, said in (('side', 4, 'side must'), ('padding', 0, 'padding must'))
    ),
    (('data', 'human36m', 'empty'), '--out must name'),
    (('data', 'mpi-inf-3dhp', 'empty'), '--out must name'),
    *(
        (changed(REPRODUCE, **{option: value}), said)
        for option, value, said in (
            ('profile', 'big', 'profile must'),
            ('data', 'nowhere', 'there is no folder'),
            ('data', 'file', 'there is no folder'),
            ('data', 'cut', 'frames.npy, size'),
            ('second_data', 'nowhere', 'there is no folder'),
            ('jobs', 0, '--jobs must'),
            ('only', 'all', '--only must'),
            ('labelled', 'S1', 'is for stores of your own'),
        )
    ),
    *(
        (changed(STATUS, **{option: value}), said)
        for option, value, said in (
            ('profile', 'big', 'profile must'),
            ('data', 'nowhere', 'there is no folder'),
            ('data', 'cut', 'frames.npy, size'),
        )
    ),
]


@pytest.fixture
def here(place, monkeypatch):
    "The place as the current folder; what a test leaves there is taken away."
    monkeypatch.chdir(place)
    for name in ('folder.npz', 'folder.csv', 'folder.html', 'folder.png'):
        Path(name).mkdir(exist_ok=True)
    before = {path.name for path in place.iterdir()}
    yield place
    for path in place.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.name != '.lock')


@pytest.mark.parametrize(
    'words, said', WALK, ids=[' '.join(str(word)[:30] for word in words if word not in FAST) for words, _ in WALK]
)
def test_a_walk_through_the_command_line(here, words, said):
    "Each ends in one line, and nothing new lies in the folder."
    before = names(here)
    is_refused(call(*words), said)
    assert names(here) == before


# ---- what the system refuses -----------------------------------------------------------------------------------------


@contextmanager
def unprivileged():
    "Root reads and writes what it likes; in the block this thread may not, as nobody else may."
    if os.geteuid():
        yield
        return
    libc, header, found, less = (
        ctypes.CDLL(None, use_errno=True),
        (ctypes.c_uint32 * 2)(0x20080522, 0),
        (ctypes.c_uint32 * 6)(),
        (ctypes.c_uint32 * 6)(),
    )
    if libc.capget(header, found):
        raise OSError(ctypes.get_errno(), 'capget')
    less[:] = found[:]
    less[0] &= ~0b1110  # effective: neither to override nor to search nor to own what is another's
    if libc.capset(header, less):
        raise OSError(ctypes.get_errno(), 'capset')
    try:
        yield
    finally:
        libc.capset(header, found)


@contextmanager
def with_mode(path, mode):
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    try:
        with unprivileged():
            yield
    finally:
        path.chmod(before)


def test_without_privileges_nothing_is_read_or_written_by_itself(here):
    "That the tests below can fail."
    with with_mode(here / 'file', 0), pytest.raises(PermissionError):
        (here / 'file').read_text()
    with with_mode(here / 'empty', 0o500), pytest.raises(PermissionError):
        (here / 'empty' / 'new').write_text('x')


READS_STORE = [
    changed(TRAIN),
    EMBED,
    SCORE,
    SEARCH,
    ATLAS,
    ('data', 'check', 'store'),
    changed(REPRODUCE, data='store'),
    changed(STATUS, data='store'),
]


@pytest.mark.parametrize('file', ['.', 'dataset.json', 'frames.npy', 'poses.npy', 'instants.csv'])
@pytest.mark.parametrize('words', READS_STORE, ids=lambda words: ' '.join(words[:2]))
def test_a_store_that_may_not_be_read(here, words, file):
    with with_mode(here / 'store' / file, 0):
        is_refused(
            call(*words),
            f"{'store' if file == '.' else file}",
            'may not be read (Permission denied). Ask its owner for it.',
        )


@pytest.mark.parametrize('words', [EMBED, SCORE, SEARCH, ATLAS], ids=lambda words: words[0])
def test_weights_that_may_not_be_read(here, words):
    with with_mode(here / 'run' / 'weights.safetensors', 0):
        is_refused(
            call(*words), 'run/weights.safetensors, file: may not be read (Permission denied). Ask its owner for it.'
        )
    with with_mode(here / 'run', 0):
        is_refused(call(*words), 'may not be read')


@pytest.mark.parametrize(
    'words',
    [changed(EMBED, data='photos'), changed(SEARCH, query='photos/a.png', database='photos')],
    ids=lambda words: words[0],
)
def test_pictures_that_may_not_be_read(here, words):
    with with_mode(here / 'photos' / 'a.png', 0):
        is_refused(call(*words), 'a.png', 'Permission denied')
    with with_mode(here / 'photos', 0):
        is_refused(call(*words), 'photos')


LOCKED = [
    (changed(TRAIN, run='empty/new'), 'empty/new'),
    (changed(TRAIN, run='empty'), 'empty'),
    (changed(EMBED, out='empty/z.npz'), 'empty/z.npz'),
    (changed(SCORE, out='empty/new/s.csv'), 'empty/new/s.csv'),
    (changed(SEARCH, out='empty/p.html'), 'empty/p.html'),
    (changed(SEARCH, csv='empty/t.csv'), 'empty/t.csv'),
    (changed(ATLAS, out='empty/a.html'), 'empty/a.html'),
    (('data', 'check', 'store', '--sheet', 'empty/s.png'), 'empty/s.png'),
    (changed(MAKE, out='empty/new'), 'empty/new'),
    (changed(MOCAP, out='empty/new'), 'empty/new'),
    (changed(VIDEOS, out='empty/new'), 'empty/new'),
    (changed(H36M, out='empty/new'), 'empty/new'),
    (changed(M3DHP, out='empty/new'), 'empty/new'),
    (changed(REPRODUCE, out='empty'), 'empty/'),
]


@pytest.mark.parametrize(
    'words, said', LOCKED, ids=[' '.join(map(str, words[:2])) + ' ' + said for words, said in LOCKED]
)
def test_a_place_that_may_not_be_written(here, words, said):
    before = names(here)
    with with_mode(here / 'empty', 0o500):
        is_refused(
            call(*words),
            said,
            'may not be written (Permission denied). Name a place where you may write, or ask its owner for it.',
        )
    assert names(here) == before


@pytest.mark.parametrize(
    'words, file',
    [
        (MOCAP, 'bvh/7_1.bvh'),
        (MOCAP, 'bvh'),
        (VIDEOS, 'clips/left.mp4'),
        (VIDEOS, 'clips'),
        (changed(MOCAP, names='names.json'), 'names.json'),
        (changed(MOCAP, index='list.csv'), 'list.csv'),
        (changed(VIDEOS, CLIPS='list.csv'), 'list.csv'),
        (H36M, 'empty'),
        (M3DHP, 'empty'),
    ],
    ids=lambda value: value if isinstance(value, str) else ' '.join(map(str, value[:2])),
)
def test_raw_files_that_may_not_be_read(here, words, file):
    with with_mode(here / file, 0):
        is_refused(call(*words), Path(file).name, 'ermission denied')


def test_a_batch_that_may_not_be_looked_at(here):
    with with_mode(here / 'empty', 0):
        is_refused(call(*changed(STATUS, out='empty')), 'empty, file: may not be read (Permission denied)')


def test_somebody_elses_unfinished_run_is_left_alone(here):
    call(*TRAIN)
    (here / 'new' / 'metrics.json').unlink()
    with with_mode(here / 'new', 0o500):
        is_refused(call(*TRAIN, '--resume'), 'new, file: may not be written')


@pytest.mark.parametrize(
    'words',
    [
        TRAIN,
        EMBED,
        changed(EMBED, out='new.safetensors'),
        changed(SCORE, out='new.csv'),
        changed(SEARCH, out='new.html'),
        changed(SEARCH, out='new.png'),
        changed(SEARCH, csv='new.csv'),
        ATLAS,
        ('data', 'check', 'store', '--sheet', 'new.png'),
    ],
    ids=lambda words: ' '.join(map(str, (words[0], *words[-2:]))),
)
def test_a_full_disk(here, monkeypatch, words):
    "One line with the file and what to do; nothing half-written is left."
    monkeypatch.setattr(
        runs.os, 'fsync', lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    )
    is_refused(call(*words), 'disk: No space left on device. Make room on the disk of', 'then run the same again')
    assert not [name for name in names(here) if '.partial' in name]


def test_a_disk_that_fills_up_while_a_log_is_written(here, monkeypatch):
    real = open

    def full(path, mode='r', *more, **how):
        if str(path).endswith('metrics.jsonl') and 'a' in mode:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return real(path, mode, *more, **how)

    monkeypatch.setattr('builtins.open', full)
    is_refused(call(*TRAIN), 'new/metrics.jsonl, disk: ', 'Make room on the disk of')
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert call(*TRAIN, '--resume').exit_code == 0, 'the same command goes on'


def test_a_damaged_checkpoint_is_named(here, monkeypatch):
    call(*TRAIN)
    (here / 'new' / 'metrics.json').unlink()
    data = (here / 'new' / 'checkpoint.pt').read_bytes()
    for damaged in (data[:-200], b'x', b''):
        (here / 'new' / 'checkpoint.pt').write_bytes(damaged)
        is_refused(
            call(*TRAIN, '--resume'),
            'new/checkpoint.pt is damaged',
            'delete it, and the run begins again from its first step',
        )
    (here / 'new' / 'checkpoint.pt').unlink()
    assert call(*TRAIN, '--resume').exit_code == 0, 'what the message says works'


@pytest.mark.parametrize('mask, of_lock', [(0o022, 0o666), (0o002, 0o666), (0o077, 0o600)])
def test_files_of_a_run_follow_the_umask(here, mask, of_lock):
    "Colleagues read a run: weights were their owner's alone. Its lock is for whoever reads: asking takes writing."
    before = os.umask(mask)
    try:
        assert call(*TRAIN, '--set', 'keep_every=2').exit_code == 0
        for words in (
            EMBED,
            changed(EMBED, out='new.safetensors'),
            changed(SCORE, out='new.csv'),
            changed(SEARCH, out='new.png', csv='new2.csv'),
            ATLAS,
            ('data', 'check', 'store', '--sheet', 'new2.png'),
        ):
            assert call(*words).exit_code == 0, words
    finally:
        os.umask(before)
    made = [
        path
        for name in ('new', 'new.npz', 'new.safetensors', 'new.csv', 'new.png', 'new2.csv', 'new.html', 'new2.png')
        for path in ((here / name).rglob('*') if (here / name).is_dir() else [here / name])
    ]
    assert {
        'weights.safetensors',
        'best.safetensors',
        'weights-000002.safetensors',
        'checkpoint.pt',
        'metrics.json',
        'metrics.jsonl',
        'config.json',
    } <= {path.name for path in made}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {
        path.name: oct(of_lock if path.name == '.lock' else 0o666 & ~mask) for path in made
    }


# ---- what is ours ----------------------------------------------------------------------------------------------------

MISTAKES = {
    'numpy': lambda *args, **how: np.zeros(2) + np.zeros(3),
    'key': lambda *args, **how: {}['what'],
    'file': lambda *args, **how: open('/nowhere/of/ours'),
    'import': lambda *args, **how: __import__('nothing_of_this_name'),
}


@pytest.mark.parametrize('mistake', MISTAKES.values(), ids=list(MISTAKES))
@pytest.mark.parametrize(
    'words, where',
    [
        (TRAIN, 'mvssl.training.split'),
        (EMBED, 'mvssl.training.embed'),
        (SCORE, 'mvssl.study.scores.score_store'),
        (SEARCH, 'mvssl.show.search.query_gallery'),
        (ATLAS, 'mvssl.show.atlas.write_atlas'),
        (('data', 'check', 'store'), 'mvssl.commands.data.describe_store'),
        (MAKE, 'mvssl.sources.synthetic.make_dataset'),
        ((*REPRODUCE, '--no-estimate'), 'mvssl.study.reproduce.make_stores'),
        (STATUS, 'mvssl.study.plan.is_held'),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_mistake_of_ours_keeps_its_traceback(here, monkeypatch, words, where, mistake):
    monkeypatch.setattr(where, mistake)
    result = call(*words)
    assert (
        result.exit_code == 1
        and isinstance(result.exception, (ValueError, KeyError, FileNotFoundError, ImportError))
        and not isinstance(result.exception, Refusal)
    ), result.output
    assert 'error:' not in result.stderr and result.exc_info[2].tb_next, 'the interpreter shows it'


def test_a_mistake_is_shown_by_the_installed_command(here):
    "In a process of its own: the traceback is on stderr, with the message of numpy."
    code = (
        'import sys, numpy as np, mvssl.commands.data as commands\n'
        'from mvssl import cli\n'
        'commands.describe_store = lambda ds: np.zeros(2) + np.zeros(3)\n'
        "sys.argv = ['mvssl', 'data', 'check', 'store']\n"
        'cli.main()'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=here)
    assert (
        done.returncode == 1
        and 'Traceback (most recent call last)' in done.stderr
        and 'operands could not be broadcast together' in done.stderr
    )


def test_a_report_that_fails_by_a_mistake_of_ours_is_no_line_in_a_summary(here, monkeypatch):
    from mvssl.study import report, reproduce

    (here / 'figures').mkdir()
    batch, summary = SimpleNamespace(figures=here / 'figures'), reproduce.Summary('x')
    monkeypatch.setattr(report, 'write_report', lambda *args, **how: (_ for _ in ()).throw(Refusal('the disk is full')))
    reproduce._write_report(batch, summary)
    assert summary.failed == dict(report='the disk is full')
    monkeypatch.setattr(report, 'write_report', MISTAKES['numpy'])
    with pytest.raises(ValueError, match='operands could not be broadcast'):
        reproduce._write_report(batch, summary)


# ---- names that hold spaces and commas -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options, held_out',
    [
        (('--validation', 'Subject 2'), ['Subject 2']),
        (('--validation', 'Subject 2', '--validation', '"Doe, Jane"'), ['Doe, Jane', 'Subject 2']),
        (('--validation', '"Doe, Jane",Subject 2'), ['Doe, Jane', 'Subject 2']),
        (('--validation', 'none'), []),
    ],
)
def test_any_subject_can_be_named(here, options, held_out):
    done = call('train', '--data', 'store', '--run', 'new', *FAST[:8], *FAST[10:], *options)
    assert done.exit_code == 0, done.output
    assert json.loads((here / 'new' / 'metrics.json').read_text())['subjects']['validation'] == held_out


def test_any_subject_can_be_chosen(here):
    done = call(*SCORE, '--by', 'subject', '--subjects', 'Subject 2', '--subjects', '"Doe, Jane"')
    assert (
        done.exit_code == 0
        and 'Subject 2' in done.stdout
        and 'Doe, Jane' in done.stdout
        and 'S1' not in done.stdout.split()
    )
    assert call(*ATLAS, '--subjects', 'Subject 2').exit_code == 0
    assert 'a name with a space in quotes' in ' '.join(call('score', '--help').stdout.split())


# ---- the type --------------------------------------------------------------------------------------------------------


def test_whoever_catches_value_errors_goes_on_working():
    from mvssl import dataset

    assert (
        issubclass(DatasetError, Refusal)
        and issubclass(Refusal, ValueError)
        and dataset.DatasetError is DatasetError
        and dataset.Problem is Problem
        and issubclass(training.Diverged, Refusal)
    )
    error = pickle.loads(
        pickle.dumps(DatasetError(Problem('a', 'b', 'c', 'd'), Problem('e', 'f', 'g', 'h')))
    )  # between processes
    assert str(error) == 'a, b: c. d.\ne, f: g. h.' and len(error.problems) == 2
