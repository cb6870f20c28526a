"""Files that grow together: whatever a kill or a damage leaves, what counts is a prefix of the records, whole."""

import os
import random
import shutil
import zlib

import pytest

from mvssl import dataset, journal
from mvssl.journal import GrowingFile, GrowingFolder, Journal, records_in
from mvssl.refusal import DatasetError

WIDTHS = dict(wide=90, narrow=20)


def contents(n):
    "Bytes of each file for the n-th record, none of them alike."
    return {name: random.Random(f'{name} {n}').randbytes(width) for name, width in WIDTHS.items()}


def opened(path, **settings):
    return GrowingFolder(path, dict(name='pair') | settings, header=lambda name: f'{name}:'.encode())


def append(folder, n):
    folder.append({name: [data[:7], data[7:]] for name, data in contents(n).items()}, dict(n=n))


@pytest.fixture
def pair(tmp_path):
    "A folder with five records, closed."
    folder = opened(tmp_path / 'pair')
    for n in range(5):
        append(folder, n)
    folder.close()
    return tmp_path / 'pair'


def test_names_are_where_they_were():
    for name in ('GrowingFile', 'GrowingFolder', 'Journal', 'BLOCK'):
        assert getattr(dataset, name) is getattr(journal, name)


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'junk'])
@pytest.mark.parametrize('name', ['wide', 'narrow', 'journal.jsonl'])
def test_whatever_is_damaged_a_prefix_of_whole_records_is_left(pair, tmp_path, name, damage):
    data = (pair / name).read_bytes()
    settings_end = data.index(b'\n') + 1 if name == 'journal.jsonl' else 0
    for at in random.Random(0).sample(range(settings_end, len(data)), 15):
        folder = shutil.copytree(pair, tmp_path / f'{at}')
        torn = dict(
            truncate=data[:at],
            flip=data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :],
            junk=data + random.Random(at).randbytes(at),
        )
        (folder / name).write_bytes(torn[damage])
        again = opened(folder)
        kept = [record['n'] for record in again.records]
        assert kept == list(range(len(kept))) and (len(kept) == 5 or damage != 'junk')
        append(again, len(kept))  # and what comes next follows them
        again.close()
        for file in WIDTHS:
            whole = b''.join(contents(n)[file] for n in range(len(kept) + 1))
            assert (folder / file).read_bytes() == f'{file}:'.encode() + whole


def test_records_say_how_long_files_are_and_what_they_hold(pair):
    first, *records = records_in(pair / 'journal.jsonl')
    assert first == dict(name='pair')
    for n, record in enumerate(records):
        for name in WIDTHS:
            body = b''.join(contents(k)[name] for k in range(n + 1))
            assert record['files'][name] == [len(name) + 1 + len(body), zlib.crc32(body)]


def test_a_journal_can_be_read_while_it_is_written_but_not_written_twice(pair):
    held = Journal(pair / 'journal.jsonl')
    assert records_in(pair / 'journal.jsonl') == held.records
    with pytest.raises(DatasetError, match='another process is writing'):
        Journal(pair / 'journal.jsonl')
    held.file.close()
    assert records_in(pair / 'nothing.jsonl') == []


def test_other_settings_leave_the_folder_as_it_is(pair):
    before = {path.name: path.read_bytes() for path in pair.iterdir()}
    with pytest.raises(DatasetError, match="journal.jsonl, name: 'other' was asked for"):
        opened(pair, name='other')
    assert {path.name: path.read_bytes() for path in pair.iterdir()} == before
    opened(pair).close()  # and nobody holds it


def test_a_file_grows_in_bytes_that_are_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, 'BLOCK', 5)  # smaller than what is read again
    file = GrowingFile(tmp_path / 'file', b'head')
    file.append([b'x' * 12, b'y'])
    size, crc = file.size, file.crc
    assert (size, crc) == (17, zlib.crc32(b'x' * 12 + b'y'))
    os.truncate(tmp_path / 'file', 16)
    file.file.close()
    again = GrowingFile(tmp_path / 'file', b'HEAD')
    assert not again.advance(size, crc) and again.size == 4
    assert again.advance(16, zlib.crc32(b'x' * 12))
    again.file.close()
