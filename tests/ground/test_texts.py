"""Guards of what is read of texts: the same numbers whatever program wrote them, and no bare error of a decoder."""

import csv
import io

import numpy as np
import pytest

from mvssl.refusal import DatasetError, Refusal
from mvssl.ground.texts import as_number, read_json, read_rows, read_text

ENCODINGS = ('utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32')
MARKED_BE = b'\xfe\xff' + 'a\tJörg\nb'.encode('utf-16-be')


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_every_encoding_and_line_end_gives_the_same_text(tmp_path, encoding, end):
    (tmp_path / 'a.txt').write_bytes(end.join(['Frame#\tTime', '', '1\tJörg 日本']).encode(encoding))
    assert read_text(tmp_path / 'a.txt') == 'Frame#\tTime\n\n1\tJörg 日本'


def test_an_empty_file_and_a_mark_alone_are_empty_texts(tmp_path):
    for data in (b'', b'\xef\xbb\xbf', b'\xff\xfe'):
        (tmp_path / 'a.txt').write_bytes(data)
        assert read_text(tmp_path / 'a.txt') == ''
    (tmp_path / 'a.txt').write_bytes(MARKED_BE)
    assert read_text(tmp_path / 'a.txt') == 'a\tJörg\nb'


@pytest.mark.parametrize(
    'data, said',
    [
        ('one\ntwo\nJörg'.encode('cp1252'), ("a.txt, line 3: b'\\xf6' is no letter in UTF-8", 'Save it as UTF-8')),
        ('one\rJörg'.encode('cp1252'), ('a.txt, line 2',)),
        (np.random.default_rng(0).bytes(5000), ('a.txt', 'no text')),
        (b'\0' * 100, ('a.txt', 'no text')),
        (b'ABC\0\0DEF', ('a.txt', 'no text')),
        ('ab'.encode('utf-16')[:-1], ('a.txt, line 1',)),
    ],
)
def test_what_is_no_text_is_refused_by_name_and_line(tmp_path, data, said):
    (tmp_path / 'a.txt').write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        read_text(tmp_path / 'a.txt')
    assert all(part in str(caught.value) for part in said), caught.value


def test_letters_that_cannot_be_told_do_no_harm_where_numbers_are_wanted(tmp_path):
    (tmp_path / 'a.txt').write_bytes('Jörg\t1.5'.encode('cp1252'))
    assert read_text(tmp_path / 'a.txt', strict=False) == 'Jörg\t1.5'
    (tmp_path / 'a.txt').write_bytes('ab\t1.5'.encode('utf-16')[:-1])
    assert read_text(tmp_path / 'a.txt', strict=False).startswith('ab\t1.')


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path):
    with pytest.raises(Refusal, match='none.txt, file: is not there'):
        read_text(tmp_path / 'none.txt')
    with pytest.raises(Refusal, match='is a folder'):
        read_text(tmp_path)


def test_numbers_as_a_spreadsheet_writes_them():
    rng = np.random.default_rng(0)
    for value in rng.normal(0, 1000, 200):
        for text in (f'{value:.4f}', f'{value:.3e}', f' {value:.0f} '):
            assert as_number(text) == as_number(text.replace('.', ',')) == float(text)
    for text in (
        '',
        ' ',
        '.',
        ',',
        '-',
        'e5',
        'soon',
        '1.234,5',
        '1,234.5',
        '1,2,3',
        '1_000',
        'nan',
        'inf',
        '1 2',
        '0x10',
        '١',
    ):
        assert as_number(text) is None, text


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_tables_as_the_csv_module_writes_them(tmp_path, separator, encoding):
    rows = [['file', 'view', 'offset_s'], ['a b.mp4', 'left, upper; one', '0.5'], ['ü.mp4', 'say "hello"', '']]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator='\r\n').writerows(rows)
    (tmp_path / 'a.csv').write_bytes(text.getvalue().encode(encoding))
    names, found = read_rows(tmp_path / 'a.csv')
    assert names == rows[0] and [cells for _, cells in found] == rows[1:] and [line for line, _ in found] == [2, 3]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    (tmp_path / 'a.csv').write_text('a,b,\n\n1,2,\n"x\ny",4\n\n5,6,7\n')
    with pytest.raises(DatasetError, match='a.csv, line 7: 3 cells, 2 columns have names'):
        read_rows(tmp_path / 'a.csv')
    (tmp_path / 'a.csv').write_text('a,b,\n\n1,2,\n"x\ny",4\n\n5\n')
    assert read_rows(tmp_path / 'a.csv') == (['a', 'b'], [(3, ['1', '2']), (5, ['x\ny', '4']), (7, ['5', ''])])


def test_damaged_json_is_refused_by_line(tmp_path):
    (tmp_path / 'a.json').write_text('{"a": 1,\n"b": }')
    with pytest.raises(DatasetError, match='a.json, line 2: not readable as JSON .*column 6'):
        read_json(tmp_path / 'a.json')
    for encoding in ENCODINGS:
        (tmp_path / 'a.json').write_bytes('{"a": "ö"}'.encode(encoding))
        assert read_json(tmp_path / 'a.json') == {'a': 'ö'}
