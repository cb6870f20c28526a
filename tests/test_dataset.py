"""The store under damage: kills at any byte, torn files, full disks, edited facts; and that opening a large one costs nothing."""
import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mvssl.dataset as dataset
from mvssl.dataset import BLOCK, COLUMNS, DatasetError, DatasetWriter, MultiviewDataset, Rows, array_files, dataset_checksum, find_problems
from mvssl.skeleton import JOINTS

SETTINGS = dict(name='tiny', source='made up', licence='none needed', hz=10, stride=5, side=8, views=['left', 'right', 'top'])
PLAN = [(subject, action, f'{action} {take}', n) for subject in ('S1', 'S5') for action, take, n in (('Eating', 1, 4), ('Walking', 1, 3), ('Walking', 2, 5))]


def person(n, seed):
    "n poses of a stick person of 1.7 m, none of them the same."
    rng = np.random.default_rng(seed)
    height = dict(Hip=930, RHip=930, LHip=930, RKnee=500, LKnee=500, RFoot=80, LFoot=80, Spine=1150, Thorax=1400, Head=1700)
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
    cameras = dict(K=np.tile(np.diag([1000., 1000, 1]), (3, 1, 1)), R=np.tile(np.eye(3), (3, 1, 1)), t=rng.normal(0, 1000, (3, 3)))
    part = dict(frames=rng.integers(1, 256, (n, 3, 8, 8, 3), 'uint8'), poses=poses, seen=seen)
    return part | dict(boxes=boxes, cameras=cameras)


def write(path, plan=PLAN, **changes):
    "Makes a store, or continues it."
    with DatasetWriter(path, **SETTINGS | changes) as writer:
        for i, (subject, action, sequence, n) in enumerate(plan):
            if not writer.has(subject, sequence): writer.add(subject, action, sequence, **content(i, n))
    return path


def bytes_of(folder): return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope='module')
def whole(tmp_path_factory): return write(tmp_path_factory.mktemp('whole')/'tiny')


@pytest.fixture
def store(whole, tmp_path):
    "A copy to damage."
    return Path(shutil.copytree(whole, tmp_path/'tiny'))


# ---- what is written

def test_same_input_gives_the_same_bytes(whole, tmp_path):
    assert bytes_of(write(tmp_path/'again')) == bytes_of(whole)


def test_files_are_those_that_numpy_writes(whole, tmp_path):
    for file in whole.glob('*.npy'):
        np.save(tmp_path/file.name, np.load(file, allow_pickle=False))
        assert (tmp_path/file.name).read_bytes() == file.read_bytes()


def test_content_survives(whole):
    ds, row = MultiviewDataset.open(whole), 0
    for i, (subject, action, sequence, n) in enumerate(PLAN):
        given, rows = content(i, n), slice(row, row + n)
        expected = given['frames'] * given['seen'][..., None, None, None]
        np.testing.assert_array_equal(ds.frames[rows], expected)
        for name in ('seen', 'poses'): np.testing.assert_array_equal(getattr(ds, name)[rows], given[name])
        np.testing.assert_array_equal(ds.boxes[rows], given['boxes'].astype('float32'))
        for name, value in given['cameras'].items(): np.testing.assert_array_equal(ds.cameras[name][i], value)
        assert ds.table[rows].values.tolist() == [[subject, action, sequence, k, k / 10] for k in range(n)]
        row += n
    assert row == len(ds) and ds.seen.dtype == bool and ds.poses.dtype == 'float32' and ds.frames.dtype == 'uint8'
    assert find_problems(whole) == []


# ---- kills

@pytest.fixture(scope='module')
def unfinished(tmp_path_factory):
    "A store that was left after all its sequences, before the end."
    path = tmp_path_factory.mktemp('unfinished')/'tiny'
    writer = DatasetWriter(path, **SETTINGS)
    for i, (subject, action, sequence, n) in enumerate(PLAN): writer.add(subject, action, sequence, **content(i, n))
    writer.close()
    assert not path.exists()
    return path.with_name('tiny.partial')


def places(file, n=12):
    "Byte offsets all over a file, its ends and the edges of its records among them."
    size = file.stat().st_size
    return sorted({0, 1, size - 1, size // 2} | set(random.Random(file.name).sample(range(size), min(size, n))))


FILES = ['frames.npy', 'seen.npy', 'poses.npy', 'boxes.npy', 'instants.csv', 'journal.jsonl']


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('damage', ['truncate', 'flip', 'junk'])
def test_any_torn_file_of_an_unfinished_store_is_mended(unfinished, whole, tmp_path, name, damage, monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda fd: None)  # hundreds of stores: speed
    for offset in places(unfinished/name):
        folder = tmp_path/f'{offset}'
        file = Path(shutil.copytree(unfinished, folder/'tiny.partial'))/name
        data = bytearray(file.read_bytes())
        if damage == 'truncate': del data[offset:]
        if damage == 'flip': data[offset] ^= 0x55
        if damage == 'junk': data += random.Random(offset).randbytes(offset + 1)
        file.write_bytes(data)
        lost_settings = name == 'journal.jsonl' and damage == 'flip' and offset < data.index(b'\n')
        if lost_settings:
            with pytest.raises(DatasetError, match='journal.jsonl, first line: damaged.*start again'): write(folder/'tiny')
        else: assert bytes_of(write(folder/'tiny')) == bytes_of(whole), (name, damage, offset)
        shutil.rmtree(folder)
