"""The store under damage: kills at any byte, torn files, full disks, edited facts; and opening a large one is cheap."""

import errno
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mvssl.dataset as dataset
import mvssl.journal as journal
from mvssl.dataset import (
    BLOCK,
    DatasetError,
    DatasetWriter,
    MultiviewDataset,
    Rows,
    array_files,
    dataset_checksum,
    files_in,
    find_problems,
    folders_in,
    is_meant,
)
from mvssl.skeleton import JOINTS

SETTINGS = dict(
    name='tiny', source='made up', licence='none needed', hz=10, stride=5, side=8, views=['left', 'right', 'top']
)
PLAN = [
    (subject, action, f'{action} {take}', n)
    for subject in ('S1', 'S5')
    for action, take, n in (('Eating', 1, 4), ('Walking', 1, 3), ('Walking', 2, 5))
]


def person(n, seed):
    "n poses of a stick person of 1.7 m, none of them the same."
    rng = np.random.default_rng(seed)
    height = dict(
        Hip=930, RHip=930, LHip=930, RKnee=500, LKnee=500, RFoot=80, LFoot=80, Spine=1150, Thorax=1400, Head=1700
    )
    body = np.array([[0, 0, height.get(joint, 1300)] for joint in JOINTS], float)
    return (body + rng.normal(0, 30, (n, len(JOINTS), 3))).astype('float32')


def content(i, n):
    "What is added for the i-th sequence: every optional part, some labels and some views missing."
    rng = np.random.default_rng(i)
    seen = np.ones((n, 3), bool)
    seen[i % n, i % 3] = False
    poses = person(n, i)
    poses[n // 2] = np.nan
    corner = rng.uniform(0, 100, (n, 3, 2))
    boxes = np.where(seen[..., None], np.concatenate((corner, corner + 50), -1), np.nan)
    cameras = dict(
        K=np.tile(np.diag([1000.0, 1000, 1]), (3, 1, 1)), R=np.tile(np.eye(3), (3, 1, 1)), t=rng.normal(0, 1000, (3, 3))
    )
    part = dict(frames=rng.integers(1, 256, (n, 3, 8, 8, 3), 'uint8'), poses=poses, seen=seen)
    return part | dict(boxes=boxes, cameras=cameras)


def write(path, plan=PLAN, **changes):
    "Makes a store, or continues it."
    with DatasetWriter(path, **SETTINGS | changes) as writer:
        for i, (subject, action, sequence, n) in enumerate(plan):
            if not writer.has(subject, sequence):
                writer.add(subject, action, sequence, **content(i, n))
    return path


def bytes_of(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp('whole') / 'tiny')


@pytest.fixture
def store(whole, tmp_path):
    "A copy to damage."
    return Path(shutil.copytree(whole, tmp_path / 'tiny'))


# ---- what is written


def test_same_input_gives_the_same_bytes(whole, tmp_path):
    assert bytes_of(write(tmp_path / 'again')) == bytes_of(whole)


def test_files_are_those_that_numpy_writes(whole, tmp_path):
    for file in whole.glob('*.npy'):
        np.save(tmp_path / file.name, np.load(file, allow_pickle=False))
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_content_survives(whole):
    ds, row = MultiviewDataset.open(whole), 0
    for i, (subject, action, sequence, n) in enumerate(PLAN):
        given, rows = content(i, n), slice(row, row + n)
        expected = given['frames'] * given['seen'][..., None, None, None]
        np.testing.assert_array_equal(ds.frames[rows], expected)
        for name in ('seen', 'poses'):
            np.testing.assert_array_equal(getattr(ds, name)[rows], given[name])
        np.testing.assert_array_equal(ds.boxes[rows], given['boxes'].astype('float32'))
        for name, value in given['cameras'].items():
            np.testing.assert_array_equal(ds.cameras[name][i], value)
        assert ds.table[rows].values.tolist() == [[subject, action, sequence, k, k / 10] for k in range(n)]
        row += n
    assert row == len(ds) and ds.seen.dtype == bool and ds.poses.dtype == 'float32' and ds.frames.dtype == 'uint8'
    assert find_problems(whole) == []


# ---- kills


@pytest.fixture
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda fd: None)  # a killed process loses nothing it has written: speed


@pytest.fixture(scope='module')
def unfinished(tmp_path_factory):
    "A store that was left after all its sequences, before the end."
    path = tmp_path_factory.mktemp('unfinished') / 'tiny'
    writer = DatasetWriter(path, **SETTINGS)
    for i, (subject, action, sequence, n) in enumerate(PLAN):
        writer.add(subject, action, sequence, **content(i, n))
    writer.close()
    assert not path.exists()
    return path.with_name('tiny.partial')


def places(file, n=12):
    "Byte offsets all over a file."
    size = file.stat().st_size
    return sorted({0, 1, size // 2, size - 1} | set(random.Random(file.name).sample(range(size), n)))


@pytest.mark.parametrize('name', ['frames.npy', 'seen.npy', 'poses.npy', 'boxes.npy', 'instants.csv', 'journal.jsonl'])
@pytest.mark.parametrize('damage', ['truncate', 'flip', 'junk'])
def test_any_torn_file_of_an_unfinished_store_is_mended(unfinished, whole, tmp_path, no_fsync, name, damage):
    for offset in places(unfinished / name):
        file = Path(shutil.copytree(unfinished, tmp_path / f'{offset}.partial')) / name
        data = bytearray(file.read_bytes())
        if damage == 'truncate':
            del data[offset:]
        if damage == 'flip':
            data[offset] ^= 0x55
        if damage == 'junk':
            data += random.Random(offset).randbytes(offset + 1)
        file.write_bytes(data)
        if (name, damage) == ('journal.jsonl', 'flip') and offset <= data.index(
            b'\n'
        ):  # the settings: nobody can tell what the rest means
            with pytest.raises(DatasetError, match='journal.jsonl, first line: damaged.*start again'):
                write(tmp_path / f'{offset}')
        else:
            assert bytes_of(write(tmp_path / f'{offset}')) == bytes_of(whole), offset


def in_child(work, *args):
    "What ended a forked process that did `work`: 0, the number of a signal, or 1 for an exception."
    pid = os.fork()
    if not pid:
        try:
            work(*args)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def write_until(path, n_bytes):
    "Writes a store until SIGKILL in the middle of a write, when n_bytes are on their way to the disk."
    left, write_all = n_bytes, journal._write

    def limited(file, data):
        nonlocal left
        if len(data) >= left:
            file.write(data[:left]), die()
        left -= len(data)
        write_all(file, data)

    journal._write = limited
    write(path)


def test_killed_at_any_byte(whole, tmp_path, no_fsync):
    "Real kills, one per store, from the first byte to the last; each is continued to the same bytes."
    total = sum(map(len, bytes_of(whole).values())) + 4000  # the journal too
    killed = 0
    for n_bytes in [1, 9, 100, *random.Random(0).sample(range(total), 40)]:
        path = tmp_path / f'{n_bytes}'
        ended = in_child(write_until, path, n_bytes)
        assert ended in (0, signal.SIGKILL)
        assert path.exists() == (ended == 0)
        if ended:
            assert bytes_of(write(path)) == bytes_of(whole), n_bytes
        killed += ended != 0
    assert killed > 25


def test_nothing_remains_of_a_longer_sequence_that_was_killed(tmp_path, no_fsync):
    short = [('S1', 'Eating', 'short', 3)]
    assert in_child(lambda: write_until(tmp_path / 'tiny', 3600)) == signal.SIGKILL
    assert (tmp_path / 'tiny.partial' / 'frames.npy').stat().st_size == 128 + 4 * 3 * 8 * 8 * 3
    assert bytes_of(write(tmp_path / 'tiny', short)) == bytes_of(write(tmp_path / 'fresh', short))


def test_nothing_remains_of_boxes_that_were_killed(tmp_path, no_fsync):
    assert in_child(lambda: write_until(tmp_path / 'tiny', 3600)) == signal.SIGKILL
    assert (tmp_path / 'tiny.partial' / 'boxes.npy').exists()
    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        writer.add('S1', 'Eating', 'Eating 1', content(0, 4)['frames'])
    assert not (tmp_path / 'tiny' / 'boxes.npy').exists() and find_problems(tmp_path / 'tiny') == []


def test_killed_again_and_again(whole, tmp_path, no_fsync):
    assert in_child(lambda: write_until(tmp_path / 'tiny', 9)) == signal.SIGKILL  # within the very first line
    ended = [
        in_child(lambda: write_until(tmp_path / 'tiny', 8000)) for _ in range(20)
    ]  # enough for one sequence, not for two of the longest
    assert ended.count(signal.SIGKILL) >= 3 and ended.count(0) == 1 and bytes_of(tmp_path / 'tiny') == bytes_of(whole)


def kill_in(function, name, after=False):
    "Patches a function so that the process dies in its call about a file of that name, before or after its work."

    def patched(path, *args, **kwargs):
        if Path(path).name != name:
            return function(path, *args, **kwargs)
        if after:
            function(path, *args, **kwargs)
        die()

    return patched


def half_file(path, write_content):
    if path.name == half_file.name:
        path.write_bytes(b'half of it')
        die()
    half_file.original(path, write_content)


@pytest.mark.parametrize('step', ['cameras.npz', 'dataset.json', 'checks', 'rename', 'after rename'])
def test_killed_while_finishing(whole, tmp_path, step):
    path = tmp_path / 'tiny'

    def work():
        if step.endswith('z') or step.endswith('json'):
            half_file.name, half_file.original, dataset._write_file = step, dataset._write_file, half_file
        if step == 'checks':
            dataset._check_store = die
        if step == 'rename':
            Path.rename = kill_in(Path.rename, 'tiny.partial')
        if step == 'after rename':
            Path.unlink = kill_in(Path.unlink, 'journal.jsonl')
        write(path)

    assert in_child(work) == signal.SIGKILL
    if step == 'after rename':
        assert find_problems(path) == []
        with pytest.raises(DatasetError, match='is a finished store'):
            write(path)
    else:
        assert not path.exists()
        write(path)
    assert bytes_of(path) == bytes_of(whole)


def test_killed_while_replacing_a_store(whole, tmp_path):
    path = write(tmp_path / 'tiny', PLAN[:2])

    def work():
        Path.rename = kill_in(Path.rename, 'tiny', after=True)
        write(path, overwrite=True)

    assert in_child(work) == signal.SIGKILL
    assert bytes_of(write(path, overwrite=True)) == bytes_of(whole)
    assert [file.name for file in tmp_path.iterdir()] == ['tiny']


def test_killed_at_random_moments(whole, tmp_path):
    path, rng = tmp_path / 'tiny', random.Random(1)
    for _ in range(25):
        pid = os.fork()
        if not pid:
            try:
                write(path)
            except BaseException:
                os._exit(1)
            os._exit(0)
        time.sleep(rng.uniform(0.005, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if path.exists():
            break
        with pytest.raises(DatasetError):
            MultiviewDataset.open(path)
    else:
        write(path)
    assert bytes_of(path) == bytes_of(whole)


def test_an_interrupt_or_error_loses_only_its_sequence(whole, tmp_path):
    def torn():
        yield bytes(100)
        raise KeyboardInterrupt

    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        for i, (subject, action, sequence, n) in enumerate(PLAN):
            with pytest.raises(KeyboardInterrupt):
                writer.folder.append({'frames.npy': torn()}, {})
            writer.add(subject, action, sequence, **content(i, n))
    assert bytes_of(tmp_path / 'tiny') == bytes_of(whole)


# ---- disks and rivals


@pytest.mark.parametrize('name', ['frames.npy', 'poses.npy', 'instants.csv', 'journal.jsonl'])
def test_full_disk_is_one_message_and_can_be_continued(whole, tmp_path, monkeypatch, name):
    write_all, calls = journal._write, 0

    def full(file, data):
        nonlocal calls
        calls += Path(file.name).name == name
        if calls == 4 and Path(file.name).name == name:
            file.write(data[:7])
            raise OSError(errno.ENOSPC, 'No space left on device')
        write_all(file, data)

    monkeypatch.setattr(journal, '_write', full)
    with pytest.raises(
        DatasetError, match=f'^{name}, disk: No space left on device. Make room .* continues where it stopped.$'
    ):
        write(tmp_path / 'tiny')
    monkeypatch.undo()
    assert not (tmp_path / 'tiny').exists()
    writer = DatasetWriter(tmp_path / 'tiny', **SETTINGS)
    assert len(writer.done) == 2
    writer.close()
    assert bytes_of(write(tmp_path / 'tiny')) == bytes_of(whole)


def test_limit_of_the_system(whole, tmp_path):
    "No simulation: the kernel refuses the bytes beyond 5 kB of a file."

    def work():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            write(tmp_path / 'tiny')
        except DatasetError as error:
            os._exit(7 if error.problems[0].file == 'frames.npy' and error.problems[0].field == 'disk' else 8)

    assert in_child(work) == 7
    assert bytes_of(write(tmp_path / 'tiny')) == bytes_of(whole)


def test_two_writers(whole, tmp_path):
    path = tmp_path / 'tiny'
    with DatasetWriter(path, **SETTINGS) as first:
        with pytest.raises(DatasetError, match='journal.jsonl, lock: another process is writing .*Wait for it'):
            DatasetWriter(path, **SETTINGS)
        assert in_child(lambda: write(path)) == 1
        for i, (subject, action, sequence, n) in enumerate(PLAN):
            first.add(subject, action, sequence, **content(i, n))
    assert bytes_of(path) == bytes_of(whole)
    with pytest.raises(DatasetError, match='finished store'):
        DatasetWriter(path, **SETTINGS)


def test_without_locks(whole, tmp_path, monkeypatch):
    "Some clusters mount their disks without locks; Windows has no fcntl."

    def refuse(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    monkeypatch.setattr(journal.fcntl, 'flock', refuse)
    assert bytes_of(write(tmp_path / 'cluster')) == bytes_of(whole)
    monkeypatch.setattr(journal, 'fcntl', None)
    assert bytes_of(write(tmp_path / 'windows')) == bytes_of(whole)


def test_a_late_writer_does_not_touch_what_another_has_finished(whole, tmp_path):
    late = DatasetWriter(tmp_path / 'other', **SETTINGS)
    late.add(*PLAN[0][:3], **content(0, 4))
    late.path = write(tmp_path / 'tiny')
    with pytest.raises(DatasetError, match='finished store'):
        late.finish()
    late.close()
    assert bytes_of(tmp_path / 'tiny') == bytes_of(whole)


@pytest.mark.parametrize(
    'changes',
    [
        dict(side=16),
        dict(hz=25),
        dict(name='other'),
        dict(views=['a', 'b', 'c']),
        dict(stride=1),
        dict(extra={'seed': 1}),
    ],
)
def test_other_settings_do_not_continue(tmp_path, changes):
    DatasetWriter(tmp_path / 'tiny', **SETTINGS).close()
    (field,) = changes
    with pytest.raises(
        DatasetError,
        match=f'journal.jsonl, {field}: .* was asked for, .* was begun with .*delete that folder to start again',
    ):
        DatasetWriter(tmp_path / 'tiny', **SETTINGS | changes)


def test_overwrite(whole, tmp_path):
    path = write(tmp_path / 'tiny', PLAN[:2])
    with pytest.raises(DatasetError, match='finished store'):
        write(path)
    assert bytes_of(write(path, overwrite=True)) == bytes_of(whole)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'mine.jpg').touch()
    with pytest.raises(DatasetError, match='exists and is no store'):
        write(tmp_path / 'photos', overwrite=True)
    assert [file.name for file in (tmp_path / 'photos').iterdir()] == ['mine.jpg']


# ---- what the writer refuses


@pytest.mark.parametrize(
    'changes, field',
    [
        (dict(hz=0), 'hz'),
        (dict(hz='10'), 'hz'),
        (dict(hz=True), 'hz'),
        (dict(hz=float('nan')), 'hz'),
        (dict(stride=2.5), 'stride'),
        (dict(side=0), 'side'),
        (dict(views=[]), 'views'),
        (dict(views=['a', 'a']), 'views'),
        (dict(views=[1, 2]), 'views'),
        (dict(name=''), 'name'),
        (dict(source=' x'), 'source'),
        (dict(licence=None), 'licence'),
        (dict(extra=[1]), 'extra'),
        (dict(extra={'a': np.ones(2)}), 'extra'),
        (dict(extra={'a': float('nan')}), 'extra'),
    ],
)
def test_bad_settings_write_nothing(tmp_path, changes, field):
    with pytest.raises(DatasetError, match=f'^dataset.json, {field}: '):
        DatasetWriter(tmp_path / 'tiny', **SETTINGS | changes)
    assert not list(tmp_path.iterdir())


def with_hole(poses):
    poses = poses.copy()
    poses[0, 3, 1] = np.nan
    return poses


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(frames=np.zeros((4, 3, 8, 8, 3))), 'frames.npy, dtype'),
        (dict(frames=np.zeros((4, 3, 8, 9, 3), 'uint8')), 'frames.npy, shape'),
        (dict(frames=np.zeros((0, 3, 8, 8, 3), 'uint8')), 'frames.npy, '),
        (dict(frames=np.uint8(3)), 'frames.npy, shape'),
        (
            dict(frames=np.zeros((4, 3, 8, 8, 3), 'uint8')),
            r'frames.npy, images: 11 are black though seen, the first at \[0, left\]',
        ),
        (dict(poses=person(3, 0)), 'poses.npy, shape'),
        (dict(poses=person(4, 0) / 1000), 'poses.npy, unit'),
        (dict(poses=with_hole(person(4, 0))), 'poses.npy, values'),
        (dict(poses=person(4, 0) * np.inf), 'poses.npy, values'),
        (dict(seen=np.ones((4, 3))), 'seen.npy, dtype'),
        (dict(seen=np.ones((4, 2), bool)), 'seen.npy, shape'),
        (dict(boxes=np.zeros((4, 3, 4))), 'boxes.npy, values'),
        (dict(boxes=np.ones((4, 4))), 'boxes.npy, shape'),
        (dict(boxes=None), 'boxes.npy, sequence'),
        (dict(cameras=None), 'cameras.npz, sequence'),
        (dict(cameras=dict(K=np.eye(3))), 'cameras.npz, names'),
        (dict(cameras=dict(K=np.eye(3), R=np.eye(3), t=np.zeros(3))), 'cameras.npz, K'),
        (
            dict(cameras=dict(K=np.tile(np.eye(3), (3, 1, 1)), R=np.ones((3, 3, 3)), t=np.zeros((3, 3)))),
            'cameras.npz, R',
        ),
        (dict(time_s=[0, 0.1, 0.1, 0.2]), 'instants.csv, time_s'),
        (dict(time_s=[0, 0.1]), 'instants.csv, time_s'),
        (dict(subject=''), 'instants.csv, subject'),
        (dict(subject=1), 'instants.csv, subject'),
        (dict(sequence='a\nb'), 'instants.csv, sequence'),
        (dict(sequence='Eating 1'), "instants.csv, sequence: S1 has 'Eating 1' already"),
    ],
)
def test_bad_sequences_add_nothing(tmp_path, changes, message):
    good = dict(subject='S1', action='Walking', sequence='Walking 1', **content(1, 4))
    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        writer.add(*PLAN[0][:3], **content(0, 4))
        with pytest.raises(DatasetError, match='^' + message):
            writer.add(**good | changes)
        writer.add(**good)
    assert find_problems(tmp_path / 'tiny') == [] and len(MultiviewDataset.open(tmp_path / 'tiny')) == 8


def test_a_store_that_would_not_pass_gets_no_name(tmp_path):
    with pytest.raises(DatasetError, match='no sequence was added'):
        with DatasetWriter(tmp_path / 'empty', **SETTINGS):
            pass
    seen = np.tile([True, True, False], (4, 1))
    with pytest.raises(DatasetError, match='seen.npy, views: never seen: top'):
        with DatasetWriter(tmp_path / 'blind', **SETTINGS) as writer:
            writer.add('S1', 'Walking', 'Walking 1', content(0, 4)['frames'], seen=seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['blind.partial', 'empty.partial']


# ---- damage to a finished store


def edit(name, change):
    "A damage: an array, or dataset.json, or the lines of a text, changed and written back."

    def damage(store):
        file = store / name
        if name.endswith('.npy'):
            np.save(file, change(np.load(file)))
        if name.endswith('.json'):
            file.write_text(json.dumps(change(json.loads(file.read_text()))))
        if name.endswith('.csv'):
            file.write_text('\n'.join(change(file.read_text().splitlines())) + '\n')
        if name.endswith('.npz'):
            with np.load(file) as arrays:
                changed = change(dict(arrays))
            np.savez(file, **changed)

    return damage


def put(**facts):
    return edit('dataset.json', lambda old: old | facts)


def without(field):
    return edit('dataset.json', lambda old: {name: value for name, value in old.items() if name != field})


def at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def overwrite_bytes(name, offset, data):
    def damage(store):
        with open(store / name, 'r+b') as file:
            file.seek(offset), file.write(data)

    return damage


def truncate(name, size):
    return lambda store: os.truncate(store / name, size)


def remove(name):
    return lambda store: (store / name).unlink()


def poses_only(change):
    return edit('poses.npy', lambda poses: change(poses).astype('float32'))


COPY, UNDO = 'Copy it again|make the store again', 'Undo the edit'
DAMAGE = {  # what was done to the store: (damage, file, field, remedy)
    'no dataset.json': (remove('dataset.json'), 'dataset.json', 'file', 'folder of a prepared dataset'),
    'dataset.json torn': (truncate('dataset.json', 50), 'dataset.json', 'file', COPY),
    'dataset.json a list': (lambda store: (store / 'dataset.json').write_text('[1]'), 'dataset.json', 'file', 'again'),
    'newer schema': (put(schema=2), 'dataset.json', 'schema', 'version of mvssl'),
    'hz absent': (without('hz'), 'dataset.json', 'hz', UNDO),
    'hz edited': (put(hz=50), 'dataset.json', 'checksum', UNDO),
    'side a text': (put(side='64'), 'dataset.json', 'side', UNDO),
    'views alike': (put(views=['a', 'a', 'b']), 'dataset.json', 'views', UNDO),
    'other joints': (put(joints=JOINTS[::-1]), 'dataset.json', 'joints', UNDO),
    'unknown fact': (put(fps=10), 'dataset.json', 'fps', 'extra'),
    'checksums absent': (put(checksums={}), 'dataset.json', 'checksums', UNDO),
    'foreign file listed': (
        edit('dataset.json', lambda old: old | dict(checksums=old['checksums'] | {'../x': '00'})),
        'dataset.json',
        'checksums',
        UNDO,
    ),
    'counts edited': (
        edit('dataset.json', lambda old: old | dict(counts=old['counts'] | dict(labelled=1))),
        'dataset.json',
        'counts',
        COPY,
    ),
    'no frames': (remove('frames.npy'), 'frames.npy', 'file', COPY),
    'no poses': (remove('poses.npy'), 'poses.npy', 'file', COPY),
    'no table': (remove('instants.csv'), 'instants.csv', 'file', COPY),
    'no cameras': (remove('cameras.npz'), 'cameras.npz', 'file', COPY),
    'frames truncated': (truncate('frames.npy', 5000), 'frames.npy', 'size', COPY),
    'frames a byte short': (
        lambda store: os.truncate(store / 'frames.npy', (store / 'frames.npy').stat().st_size - 1),
        'frames.npy',
        'size',
        COPY,
    ),
    'frames empty': (truncate('frames.npy', 0), 'frames.npy', 'header', COPY),
    'header of poses damaged': (overwrite_bytes('poses.npy', 0, b'xx'), 'poses.npy', 'header', COPY),
    'bytes after the end': (
        lambda store: (store / 'seen.npy').write_bytes((store / 'seen.npy').read_bytes() + b'x'),
        'seen.npy',
        'size',
        COPY,
    ),
    'poses in double': (
        edit('poses.npy', lambda poses: poses.astype('float64')),
        'poses.npy',
        'dtype',
        'DatasetWriter',
    ),
    'frames in float': (
        edit('frames.npy', lambda frames: frames / np.float32(255)),
        'frames.npy',
        'dtype',
        'DatasetWriter',
    ),
    'a pickle': (
        lambda store: np.save(store / 'poses.npy', np.array([{}]), allow_pickle=True),
        'poses.npy',
        'dtype',
        'DatasetWriter',
    ),
    'one instant less': (edit('seen.npy', lambda seen: seen[:-1]), 'seen.npy', 'shape', COPY),
    'channels first': (edit('frames.npy', lambda frames: np.moveaxis(frames, -1, 2)), 'frames.npy', 'shape', COPY),
    'Fortran order': (edit('poses.npy', np.asfortranarray), 'poses.npy', 'shape', COPY),
    'pose with a hole': (edit('poses.npy', at((0, 4, 1), np.nan)), 'poses.npy', 'values', 'NaN for the whole row'),
    'infinite pose': (edit('poses.npy', at(0, np.inf)), 'poses.npy', 'values', 'NaN for the whole row'),
    'metres': (poses_only(lambda poses: poses / 1000), 'poses.npy', 'unit', 'times 1000'),
    'centimetres': (poses_only(lambda poses: poses / 10), 'poses.npy', 'unit', 'Convert to mm'),
    'y up': (poses_only(lambda poses: poses[..., [0, 2, 1]]), 'poses.npy', 'vertical axis', 'z points up'),
    'z down': (poses_only(lambda poses: poses * [1, 1, -1]), 'poses.npy', 'vertical axis', 'z points up'),
    'view never seen': (edit('seen.npy', at((slice(None), 1), False)), 'seen.npy', 'views', 'without these views'),
    'seen neither true nor false': (overwrite_bytes('seen.npy', 130, b'\7'), 'seen.npy', 'values', COPY),
    'row deleted': (edit('instants.csv', lambda lines: lines[:3] + lines[4:]), 'instants.csv', 'rows', COPY),
    'rows exchanged': (
        edit('instants.csv', lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]),
        'instants.csv',
        'index',
        COPY,
    ),
    'sequence twice': (
        edit('instants.csv', lambda lines: [line.replace('Walking 2', 'Walking 1') for line in lines]),
        'instants.csv',
        'index',
        COPY,
    ),
    'sequence interrupted': (
        edit(
            'instants.csv', lambda lines: [line.replace('S5,Eating,Eating 1', 'S1,Eating,Eating 1') for line in lines]
        ),
        'instants.csv',
        'sequence',
        COPY,
    ),
    'column added': (
        edit('instants.csv', lambda lines: [lines[0] + ',mood', *(line + ',1' for line in lines[1:])]),
        'instants.csv',
        'columns',
        'exactly these columns',
    ),
    'column missing': (
        edit('instants.csv', lambda lines: [line.rsplit(',', 1)[0] for line in lines]),
        'instants.csv',
        'columns',
        'exactly these columns',
    ),
    'index a text': (
        edit('instants.csv', lambda lines: [lines[0], lines[1].replace(',0,', ',first,'), *lines[2:]]),
        'instants.csv',
        'index',
        COPY,
    ),
    'last row torn': (edit('instants.csv', lambda lines: [*lines[:-1], lines[-1][:12]]), 'instants.csv', 'index', COPY),
    'quote left open': (
        edit('instants.csv', lambda lines: [*lines[:-1], '"' + lines[-1]]),
        'instants.csv',
        'rows',
        COPY,
    ),
    'subject empty': (
        edit('instants.csv', lambda lines: [line.replace('S5', '') for line in lines]),
        'instants.csv',
        'subject',
        COPY,
    ),
    'time stands still': (
        edit('instants.csv', lambda lines: [*lines[:2], lines[2].replace('0.1', '0.0'), *lines[3:]]),
        'instants.csv',
        'time_s',
        COPY,
    ),
    'not a text file': (
        lambda store: (store / 'instants.csv').write_bytes(b'\xff\xfe\x00' * 50),
        'instants.csv',
        '(rows|columns)',
        COPY + '|exactly',
    ),
    'subject renamed': (
        edit('instants.csv', lambda lines: [line.replace('S5', 'S6') for line in lines]),
        'instants.csv',
        'checksum',
        COPY,
    ),
    'one bit of a frame': (overwrite_bytes('frames.npy', 700, b'\0'), 'frames.npy', 'checksum', COPY),
    'one bit of a pose': (edit('poses.npy', at((0, 0, 0), 1.0)), 'poses.npy', 'checksum', COPY),
    'picture where not seen': (edit('seen.npy', at((1, 1), False)), 'frames.npy', 'images', 'do not belong together'),
    'black where seen': (edit('frames.npy', at((2, 1), 0)), 'frames.npy', 'images', 'mark them as not seen'),
    'boxes inside out': (edit('boxes.npy', lambda boxes: boxes[..., [2, 3, 0, 1]]), 'boxes.npy', 'values', 'in px'),
    'boxes as corner points': (edit('boxes.npy', lambda boxes: boxes.reshape(-1, 3, 2, 2)), 'boxes.npy', 'shape', COPY),
    'cameras torn': (truncate('cameras.npz', 300), 'cameras.npz', 'file', COPY),
    'a camera less': (
        edit('cameras.npz', lambda cameras: cameras | dict(t=cameras['t'][:, :2])),
        'cameras.npz',
        't',
        'one camera per sequence and view',
    ),
    'cameras without R': (
        edit('cameras.npz', lambda cameras: dict(K=cameras['K'], t=cameras['t'])),
        'cameras.npz',
        'names',
        'rotation R',
    ),
    'scaled rotation': (
        edit('cameras.npz', lambda cameras: cameras | dict(R=2 * cameras['R'])),
        'cameras.npz',
        'R',
        'rotations',
    ),
    'unknown camera': (
        edit('cameras.npz', lambda cameras: cameras | dict(t=cameras['t'] * np.nan)),
        'cameras.npz',
        't',
        'Leave cameras out',
    ),
}


@pytest.mark.parametrize('name', DAMAGE)
def test_damage_is_named(store, name):
    damage, file, field, remedy = DAMAGE[name]
    assert find_problems(store) == []
    damage(store)
    found = find_problems(store)
    assert [
        problem
        for problem in found
        if problem.file == file and re.fullmatch(field, problem.field) and re.search(remedy, problem.remedy)
    ], list(map(str, found))
    assert all(len(str(problem)) < 400 and '\n' not in str(problem) for problem in found)
    with pytest.raises(DatasetError, match=f'{file}, {field}: '):
        MultiviewDataset.open(store).validate()


def test_all_problems_are_listed(store):
    for name in ('metres', 'view never seen', 'row deleted', 'boxes inside out', 'hz edited'):
        DAMAGE[name][0](store)
    remove('frames.npy')(store)
    found = {(problem.file, problem.field) for problem in find_problems(store, checksums=False)}
    assert found == {
        ('poses.npy', 'unit'),
        ('seen.npy', 'views'),
        ('instants.csv', 'rows'),
        ('boxes.npy', 'values'),
        ('dataset.json', 'checksum'),
        ('frames.npy', 'file'),
    }


def test_places_that_are_no_store(tmp_path, unfinished):
    (tmp_path / 'empty').mkdir()
    for path, message in (
        (tmp_path / 'nowhere', 'there is no folder'),
        (tmp_path / 'empty', 'dataset.json, file: missing'),
        (unfinished, 'is not finished. Run the command'),
        (unfinished.with_suffix(''), 'is not finished. Run the command'),
        (Path('/'), 'dataset.json'),
    ):
        with pytest.raises(DatasetError, match=message):
            MultiviewDataset.open(path)
        assert re.search(message, str(find_problems(path)[0]))


def test_any_flipped_byte_is_found(store):
    for file in [file for file in store.iterdir() if file.suffix in ('.npy', '.csv')]:
        for offset in places(file, 6):
            data = bytearray(file.read_bytes())
            data[offset] ^= 1
            file.write_bytes(data)
            assert find_problems(store), (file.name, offset)
            data[offset] ^= 1
            file.write_bytes(data)
    assert find_problems(store) == []


def test_checksum_names_the_data(whole, tmp_path):
    facts = MultiviewDataset.open(whole).facts
    for changes in (dict(licence='other'), dict(extra=dict(seed=1)), dict(name='other')):
        assert dataset_checksum(facts | changes) == facts['checksum']
    for changes in (
        dict(hz=25),
        dict(stride=1),
        dict(views=['a', 'b', 'c']),
        dict(checksums=facts['checksums'] | {'poses.npy': '0'}),
    ):
        assert dataset_checksum(facts | changes) != facts['checksum']
    data = (whole / 'poses.npy').read_bytes()
    assert facts['checksums']['poses.npy'] == f'{zlib.crc32(data[128:]):08x}'


# ---- reading


def test_parts(whole):
    ds = MultiviewDataset.open(whole)
    table = ds.table
    for conditions in (
        dict(subject='S1'),
        dict(action=['Walking']),
        dict(subject=['S1', 'S5'], action='Walking'),
        dict(sequence='Walking 2'),
        dict(labelled=True),
        dict(subject='S5', labelled=False),
    ):
        keep = np.ones(len(ds), bool)
        for field, value in conditions.items():
            keep &= (
                ds.is_labelled == value
                if field == 'labelled'
                else table[field].isin([value] if isinstance(value, str) else value).to_numpy()
            )
        part = ds.where(**conditions)
        assert part.instants.tolist() == np.flatnonzero(keep).tolist() and len(part) == keep.sum()
        for name in ('frames', 'seen', 'poses', 'boxes', 'is_labelled'):
            np.testing.assert_array_equal(np.asarray(getattr(part, name)), getattr(ds, name)[keep])
        pd.testing.assert_frame_equal(part.table, table[keep].reset_index(drop=True))
        assert part.sequences['instants'].sum() == len(part)
        for name, array in part.cameras.items():
            np.testing.assert_array_equal(array[part.sequence_index], ds.cameras[name][ds.sequence_index][keep])
        assert (
            part.sequences.iloc[part.sequence_index][['subject', 'sequence']].values.tolist()
            == part.table[['subject', 'sequence']].values.tolist()
        )


def test_chained_parts(whole):
    ds = MultiviewDataset.open(whole)
    chained, at_once = (
        ds.where(subject='S5').where(action='Walking').where(labelled=True),
        ds.where(subject='S5', action='Walking', labelled=True),
    )
    assert chained.instants.tolist() == at_once.instants.tolist()
    with pytest.raises(DatasetError, match="no 'S1'. There are S5"):
        chained.where(subject='S1')
    with pytest.raises(DatasetError, match="Did you mean 'Eating'"):
        ds.where(action='eating')
    with pytest.raises(DatasetError, match='no instant has subject='):
        ds.where(subject=[])
    with pytest.raises(TypeError):
        ds.where(subjects='S1')


def test_parts_share_the_frames(whole):
    ds = MultiviewDataset.open(whole)
    part = ds.where(subject='S5')
    assert isinstance(ds.frames, np.memmap) and isinstance(part.frames, Rows)
    assert part.frames.array is ds.frames and part.frames.shape == (len(part), 3, 8, 8, 3)


def test_rows_index_as_arrays_do():
    array, rng = np.arange(20 * 4 * 5).reshape(20, 4, 5), np.random.default_rng(0)
    chosen = np.sort(rng.choice(20, 9, replace=False))
    rows, copy = Rows(array, chosen), array[chosen]
    keys = [
        0,
        -1,
        slice(None),
        slice(2, 7),
        slice(None, None, -2),
        slice(4, 4),
        [1, 5, 1],
        np.arange(9) % 2 == 0,
        np.int64(3),
        ...,
        None,
        (slice(1, 5), 2),
        (3, [0, 2]),
        ([1, 2, 3], [0, 1, 2]),
        (slice(1, 4), [0, 2], 1),
        (..., 1),
        (2, ..., 1),
        (slice(1, 4), ..., slice(0, 2)),
        (rng.integers(0, 9, (2, 3)), rng.integers(0, 4, (2, 3))),
        (np.arange(9) > 5, [0, 1, 2]),
    ]
    for key in keys:
        np.testing.assert_array_equal(rows[key], copy[key])
    for key in (9, [0, 9], (0, 4)):
        with pytest.raises(IndexError):
            rows[key]
    assert len(rows) == 9 and rows.ndim == 3 and rows.dtype == array.dtype and np.asarray(rows, float).dtype == float


def test_counts(whole):
    ds, counts = MultiviewDataset.open(whole), MultiviewDataset.open(whole).counts()
    assert (
        counts['instants'].sum() == len(ds)
        and counts['labelled'].sum() == ds.is_labelled.sum() == ds.facts['counts']['labelled']
    )
    assert counts[ds.views].to_numpy().sum() == ds.seen.sum() == ds.facts['counts']['images']
    expected = {(s, a): sum(n for ss, aa, _, n in PLAN if (ss, aa) == (s, a)) for s, a, _, _ in PLAN}
    assert counts['instants'].to_dict() == expected
    assert ds.disk_bytes == sum(map(len, bytes_of(whole).values()))


def test_another_process_gets_the_path_not_the_pixels(whole):
    part = MultiviewDataset.open(whole).where(subject='S5')
    assert len(pickle.dumps(part)) < 2000
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.frames[:], part.frames[:])
    assert pickle.loads(pickle.dumps(DatasetError(dataset.Problem('a', 'b', 'c', 'd')))).problems[0].remedy == 'd'


def test_names_are_texts(tmp_path):
    "Neither 007 nor NA nor a comma changes on the way."
    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        for i, subject in enumerate(('007', 'NA', '1e3', 'a, "b"', 'Zoë')):
            writer.add(subject, 'None', 'true', content(i, 4)['frames'])
    ds = MultiviewDataset.open(tmp_path / 'tiny')
    assert list(ds.sequences['subject']) == ['007', 'NA', '1e3', 'a, "b"', 'Zoë'] and set(ds.table['action']) == {
        'None'
    }
    assert (
        ds.boxes is None and ds.cameras is None and not ds.is_labelled.any() and find_problems(tmp_path / 'tiny') == []
    )


# ---- size


def sparse_store(path, instants, views=4, side=128):
    "A store of any size whose frames take no room on the disk."
    path.mkdir()
    sequence, index = np.divmod(np.arange(instants), 400)
    table = pd.DataFrame(
        dict(
            subject=[f'S{q % 7}' for q in sequence],
            action=[f'Action{q % 15}' for q in sequence],
            sequence=[f'take {q}' for q in sequence],
            index=index,
            time_s=index / 10,
        )
    )
    table.to_csv(path / 'instants.csv', index=False)
    for name, (dtype, shape) in array_files(instants, views, side).items():
        if name == 'boxes.npy':
            continue
        np.lib.format.open_memmap(path / name, 'w+', dtype, shape).flush()
    facts = SETTINGS | dict(
        schema=1,
        side=side,
        views=[f'{v}' for v in range(views)],
        joints=JOINTS,
        extra={},
        counts=dict(instants=instants),
        checksums=dict.fromkeys(['frames.npy', 'seen.npy', 'poses.npy', 'instants.csv'], '0'),
    )
    (path / 'dataset.json').write_text(json.dumps(facts | dict(checksum=dataset_checksum(facts))))


@pytest.mark.parametrize('instants, side, limit_mb', [(78_000, 128, 100), (312_000, 64, 130)])
def test_opening_15_gigabytes(tmp_path, instants, side, limit_mb):
    sparse_store(tmp_path / 'large', instants, side=side)
    assert (tmp_path / 'large' / 'frames.npy').stat().st_size > 15e9
    code = """
        import sys, time
        def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096
        import mvssl.dataset
        start = time.perf_counter()
        ds = mvssl.dataset.MultiviewDataset.open(sys.argv[1])
        seconds, part = time.perf_counter() - start, ds.where(subject='S3', action='Action3')
        assert part.frames[2:5].sum() == 0
        print(seconds, resident() / 1e6)"""
    ran = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code), tmp_path / 'large'], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    seconds, megabytes = map(float, ran.stdout.split())
    assert seconds < 1 and megabytes < limit_mb, 'all of the process: Python, numpy and pandas are 70 MB of it'


def test_nothing_heavy_is_imported_for_the_store():
    code = """
        import sys
        import mvssl.dataset
        heavy = {'torch', 'matplotlib', 'PIL', 'seaborn', 'scipy', 'fastcore', 'nbdev', 'IPython'}
        print({name.split('.')[0] for name in sys.modules} & heavy)"""
    assert (
        subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True).stdout
        == 'set()\n'
    )


def test_memory_stays_flat(tmp_path):
    "64 MB of frames from a file, through the writer and the checks, in blocks."
    shape = (1300, 4, 64, 64, 3)
    frames = np.lib.format.open_memmap(tmp_path / 'frames.npy', 'w+', 'uint8', shape)
    frames[...] = 7
    seen = np.ones(shape[:2], bool)
    seen[::3, 1] = False
    tracemalloc.start()
    with DatasetWriter(tmp_path / 'store', **SETTINGS | dict(side=64, views=['a', 'b', 'c', 'd'])) as writer:
        writer.add('S1', 'Walking', 'Walking 1', frames, seen=seen)
    assert find_problems(tmp_path / 'store') == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames.nbytes > 60e6 and peak < 4 * BLOCK


# ---- files of a folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'name',
    [
        '._take1.bvh',
        '._index.csv',
        '.DS_Store',
        '.take1.bvh',
        'Thumbs.db',
        'THUMBS.DB',
        'desktop.ini',
        'Icon\r',
        '~$notes.bvh',
        '__MACOSX',
        '@eaDir',
        '$RECYCLE.BIN',
        'lost+found',
    ],
)
def test_what_systems_leave_is_not_meant(tmp_path, name):
    assert not is_meant(name)
    for folder in ('x', name):
        (tmp_path / folder).mkdir(exist_ok=True)
    for file in ('take1.bvh', 'x/take1.bvh', f'{name}/take1.bvh', f'x/{name}'):
        (tmp_path / file).touch()
    assert [path.name for path in files_in(tmp_path)] == ['take1.bvh'] and [
        path.name for path in folders_in(tmp_path)
    ] == ['x']
    assert [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path, deep=True)] == [
        'take1.bvh',
        'x/take1.bvh',
    ]


def test_a_folder_that_is_named_is_meant_whatever_it_is_called(tmp_path):
    for folder in ('.hidden', '__MACOSX'):
        (tmp_path / folder / 'x').mkdir(parents=True)
        (tmp_path / folder / 'x' / 'a.BVH').touch()
        assert files_in(tmp_path / folder, ('.bvh',), deep=True) == [tmp_path / folder / 'x' / 'a.BVH']


def test_links_are_followed_once_and_dangling_ones_are_listed(tmp_path):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'a.bvh').touch()
    takes = tmp_path / 'takes'
    takes.mkdir()
    for name, target in (
        ('ben', tmp_path / 'there'),
        ('up', tmp_path / 'takes'),
        ('gone.bvh', tmp_path / 'nowhere.bvh'),
    ):
        (takes / name).symlink_to(target)
    assert [path.relative_to(takes).as_posix() for path in files_in(takes, ('.bvh',), deep=True)] == [
        'ben/a.bvh',
        'gone.bvh',
    ]
    assert [path.name for path in folders_in(takes)] == ['ben', 'up']
    with pytest.raises(DatasetError, match='a.bvh, folder: Not a directory'):
        files_in(tmp_path / 'there' / 'a.bvh')


# ---- people who lie --------------------------------------------------------------------------------------------------


def lying(n, seed):
    return person(n, seed)[..., [0, 2, 1]]


def test_who_lies_is_asked_for_at_the_first_pose_and_not_after_the_work(tmp_path):
    with (
        pytest.raises(
            DatasetError,
            match='vertical axis: from feet to head it is .* Turn the world so that z points up; if this is how',
        ),
        DatasetWriter(tmp_path / 's', **SETTINGS) as writer,
    ):
        writer.add('S1', 'Unlabelled', 'a', **content(0, 4) | dict(poses=None))
        writer.add('S1', 'Lying', 'b', **content(0, 4) | dict(poses=lying(4, 0)))
    assert not (tmp_path / 's').exists()


@pytest.mark.parametrize(
    'poses', [lying(4, 0), person(4, 0)[..., [2, 0, 1]], -person(4, 0)], ids=['lying', 'along x', 'upside down']
)
def test_a_maker_who_says_where_up_is_may_store_people_as_they_were(tmp_path, poses):
    "What the message offers works, from the first sequence to `find_problems`."
    with DatasetWriter(tmp_path / 's', **SETTINGS, extra=dict(vertical='z, as the cameras were calibrated')) as writer:
        writer.add('S1', 'Lying', 'a', **content(0, 4) | dict(poses=poses))
    assert find_problems(tmp_path / 's') == []
    facts = json.loads((tmp_path / 's' / 'dataset.json').read_text())
    (tmp_path / 's' / 'dataset.json').write_text(json.dumps(facts | dict(extra={})))
    assert [problem.field for problem in find_problems(tmp_path / 's')] == ['vertical axis']


def test_one_who_lies_among_many_who_stand_is_no_matter(tmp_path):
    with DatasetWriter(tmp_path / 's', **SETTINGS) as writer:
        writer.add('S1', 'Standing', 'a', **content(0, 9))
        writer.add('S1', 'Lying', 'b', **content(1, 4) | dict(poses=lying(4, 1)))
    assert find_problems(tmp_path / 's') == []


def test_one_who_lies_may_follow_after_a_kill(tmp_path):
    writer = DatasetWriter(tmp_path / 's', **SETTINGS)
    writer.add('S1', 'Standing', 'a', **content(0, 9))
    writer.close()
    with DatasetWriter(tmp_path / 's', **SETTINGS) as writer:
        writer.add('S1', 'Lying', 'b', **content(1, 4) | dict(poses=lying(4, 1)))
    assert find_problems(tmp_path / 's') == []
