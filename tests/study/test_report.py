"""Guards of mvssl.study.report: damaged, missing and hostile content, what the page says, its size, its tables."""

import base64
import csv
import hashlib
import html
import html.parser
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mvssl.study.report import (
    PARTS,
    _allowance,
    _png,
    _rows,
    _table,
    read_results,
    results_table,
    took_in_words,
    write_report,
)
from mvssl.runs import VERDICTS, open_run, save_figure, save_table

CLAIM = dict(
    title='Video helps',
    paper='about 25 % (Human3.6M)',
    ours='17 % (14 to 20, 3 seeds)',
    verdict='partly',
    why='not 25 %',
)
VOID = {'meta', 'img', 'br', 'link', 'input', 'hr'}


class Page(html.parser.HTMLParser):
    "Reads a page and refuses tags that are not closed in order."

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f'{tag} closed where {self.open[-3:]} is open'

    def handle_data(self, data):
        if not self.open or self.open[-1] != 'style':
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]

    @property
    def said(self):
        return re.sub(r'\s+', ' ', ' '.join(self.text))


NEEDED = [part for part in PARTS if part.files]  # a study without the others is whole


def figure(inches=(3.35, 1.5), noise=0):
    drawn = Figure(figsize=inches)
    ax = drawn.subplots()
    if noise:
        ax.imshow(np.random.default_rng(0).uniform(size=(noise, 2 * noise, 3)))
    ax.plot([0, 1])
    return drawn


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    "A folder with all that there should be."
    root = tmp_path_factory.mktemp('filled')
    folder = root / 'smoke-synthetic'
    for at, part in enumerate(NEEDED):
        with open_run(
            root / 'runs' / f'{part.notebook}-0123abcd',
            dict(seed=0),
            {'dataset': 'aa11', 'joint-100-s0': 'bb22'},
            f'nbs/experiments/{part.notebook}.ipynb',
            figures=folder,
        ) as run:
            for artefact in part.artefacts:
                claim = (
                    CLAIM | dict(verdict=VERDICTS[at % 4], title=f'Claim of {artefact}')
                    if artefact == part.artefacts[0]
                    else None
                )
                if f'{artefact}.png' in part.files:
                    save_figure(figure(), artefact, run, note=f'What {artefact} shows.', claim=claim, formats='png')
                if f'{artefact}.csv' in part.files:
                    save_table(pd.DataFrame({'n': [1, 2], 'mm': [100.123, np.nan]}), artefact, run, claim=claim)
            run.finish({})
    return folder


@pytest.fixture
def folder(filled, tmp_path):
    "A copy of it, to be damaged."
    return Path(shutil.copytree(filled, tmp_path / 'smoke-synthetic'))


def test_a_complete_folder(folder):
    assert read_results(folder).problems == []
    path = write_report(folder)
    page = Page(path.read_text())
    for part in NEEDED:
        assert part.title in page.said and f'Claim of {part.artefacts[0]}' in page.said and part.source in page.said
    assert 'Nothing: every artefact is here' in page.said and 'Missing' not in page.said
    assert len(page.all('img')) == sum(file.endswith('.png') for part in PARTS for file in part.files)
    assert (
        '1 replicated, 2' not in page.said
        and '2 replicated, 1 partly replicated, 1 not replicated, 1 not tested' in page.said
    )
    assert page.said.count('synthetic people') >= len(NEEDED) + 4  # on top, over the claims, over every part
    for fact in ('aa11', 'bb22', 'torch', 'experiments/1_selection_of_negatives.ipynb', '"seed": 0'):
        assert fact in page.said
    assert read_results(folder).problems == [], 'the report itself is no foreign file'
    sidecar = json.loads((folder / 'report.json').read_text())
    assert sidecar['artefacts'] == {'report.html': hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (
        sidecar['inputs']['semi_supervision.json']
        == hashlib.sha256((folder / 'semi_supervision.json').read_bytes()).hexdigest()
    )
    assert sidecar['results']['verdicts'] == {'replicated': 2, 'partly': 1, 'not': 1, 'not tested': 1}


def test_the_page_needs_nothing_else(folder):
    text = write_report(folder).read_text()
    page = Page(text)
    ids = {attrs['id'] for _, attrs in page.found if 'id' in attrs}
    assert {attrs['href'][1:] for attrs in page.all('a')} <= ids and all(
        attrs['href'][0] == '#' for attrs in page.all('a')
    )
    for attrs in page.all('img'):
        kind, data = attrs['src'].split(',')
        assert (
            kind == 'data:image/png;base64'
            and Image.open(io.BytesIO(base64.b64decode(data))).format == 'PNG'
            and attrs['alt']
        )
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in page.found}
    assert not re.search(r'url\(|@import|https?:', text)


def test_the_same_files_make_the_same_page(folder):
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_an_empty_folder(tmp_path):
    page = Page(write_report(tmp_path).read_text())
    assert page.said.count('Missing:') == len(NEEDED) and 'No artefact here makes a claim' in page.said
    for part in PARTS:
        for file in part.files:
            assert file in page.said
    assert results_table(tmp_path) == ''
    with pytest.raises(ValueError, match='mvssl reproduce makes it'):
        write_report(tmp_path / 'nowhere')


@pytest.mark.parametrize('file', [file for part in PARTS for file in part.files])
def test_every_missing_file_is_named_and_nothing_else(folder, file):
    (folder / file).unlink()
    assert read_results(folder).problems == [(file, 'its sidecar names it, but it is not there')]
    Page(write_report(folder).read_text())


@pytest.mark.parametrize(
    'file, content, problem',
    [
        ('semi_supervision.json', b'{"artefacts": ', 'cannot be read'),
        ('semi_supervision.json', b'\xff\xfe', 'cannot be read'),
        ('semi_supervision.png', b'not a picture', 'has changed since'),
        ('semi_supervision.csv', b'a,b\n1\n', 'has changed since'),
        ('semi_supervision.md', b'', 'has changed since'),
        ('semi_supervision.md', b'| a |\n', 'has changed since'),
        ('semi_supervision.csv', b'\xff', 'has changed since'),
        ('mine.png', b'', 'has no sidecar'),
    ],
)
def test_damage_is_said_and_the_rest_is_shown(folder, file, content, problem):
    (folder / file).write_bytes(content)
    assert problem in dict(read_results(folder).problems)[file]
    page = Page(write_report(folder).read_text())
    assert file in page.said and 'Claim of fig2_embedding_space' in page.said


def test_json_that_is_no_sidecar_is_let_be(folder):
    for name, content in (('notes', '[1, 2]'), ('other', '{"artefacts": 3}'), ('another', '"x"')):
        (folder / f'{name}.json').write_text(content)
    assert read_results(folder).problems == [] and not {'notes', 'other', 'another'} & set(
        read_results(folder).sidecars
    )


def test_a_sidecar_may_lack_anything(tmp_path):
    (tmp_path / 'x.json').write_text(json.dumps(dict(artefacts={}, claim=dict(title='only a title'))))
    page = Page(write_report(tmp_path).read_text())
    assert 'only a title' in page.said and 'no commit known' in page.said
    assert results_table(tmp_path).splitlines()[2].startswith('| only a title |')


def test_what_a_sidecar_says_is_text_and_not_html(tmp_path):
    evil = '<script>alert(1)</script> & "<b>" | <img src=x>'
    with open_run(tmp_path / 'run', dict(a=evil), source=evil, figures=tmp_path / 'laptop-h36m') as run:
        save_figure(
            figure(),
            'semi_supervision',
            run,
            note=evil,
            claim=dict.fromkeys(CLAIM, evil) | dict(verdict='not'),
            results=dict(missing=[evil]),
        )
        save_table(pd.DataFrame({evil: [evil]}), 'semi_supervision', run)
    page = Page(write_report(tmp_path / 'laptop-h36m').read_text())
    assert page.all('script') == [] and len(page.all('img')) == 1
    assert page.said.count('<script>alert(1)</script>') >= 8
    assert [re.sub(r'\\\|', '', line).count('|') for line in results_table(tmp_path / 'laptop-h36m').splitlines()] == [
        5,
        5,
        5,
    ]


@pytest.mark.parametrize(
    'name, results, people',
    [
        ('gpu-synthetic', None, 'synthetic people'),
        ('gpu-human36m', None, ''),
        ('laptop-mine', dict(people='synthetic views of real motion'), 'synthetic views of real motion'),
    ],
)
def test_synthetic_results_are_called_so(tmp_path, name, results, people):
    with open_run(tmp_path / 'run', {}, figures=tmp_path / name) as run:
        save_figure(figure(), 'semi_supervision', run, claim=CLAIM, results=results)
    said = Page(write_report(tmp_path / name).read_text()).said
    heads = results_table(tmp_path / name).splitlines()[0]
    assert (
        (f'Ours, on {people} |' in heads and people in said)
        if people
        else ('| Ours |' in heads and 'synthetic' not in said)
    )


def test_a_claim_in_short_is_a_line(tmp_path):
    with open_run(tmp_path / 'run', {}, figures=tmp_path / 'figures') as run:
        in_short = CLAIM | dict(
            short='17 % (14 to 20), 5 seeds', paper_short='about 25 %', verdict='partly', title='Helps'
        )
        save_figure(figure(), 'semi_supervision', run, claim=in_short)
        save_figure(figure(), 'sec1_negatives', run, claim=in_short | dict(paper_short=''))
    lines = results_table(tmp_path / 'figures').splitlines()[2:]
    assert lines == [
        f'| Helps | {paper} | 17 % (14 to 20), 5 seeds | **partly replicated** |'
        for paper in ('about 25 %', 'no number')
    ]


def test_a_section_that_may_be_missing_is_shown_where_it_is(folder, tmp_path):
    assert "The paper's own way" not in Page(write_report(folder).read_text()).said
    with open_run(tmp_path / 'paper_way-0123abcd', {}, figures=folder) as run:
        save_table(pd.DataFrame({'mm': [100.123]}), 'paper_way', run)
    assert "The paper's own way" in Page(write_report(folder).read_text()).said
    assert read_results(folder).problems == []


def test_results_table_is_markdown(filled):
    lines = results_table(filled).splitlines()
    assert lines[0] == '| Claim | The paper | Ours, on synthetic people | Verdict |' and len(lines) == 2 + len(NEEDED)
    assert (
        lines[2] == '| Claim of semi_supervision | about 25 % (Human3.6M) | 17 % (14 to 20, 3 seeds) '
        '| **replicated**: not 25 % |'
    )
    assert (
        '| **partly replicated**: not 25 % |' in lines[3]
        and '| **not replicated**: not 25 % |' in lines[4]
        and '| **not tested**: not 25 % |' in lines[5]
    )


def test_tables_are_shown_as_they_are(tmp_path):
    table = pd.DataFrame({'arm': ['a|b', 'c'], 'mm': [1.23456, np.nan], 'n': [1, 20]})
    with open_run(tmp_path / 'run', {}) as run:
        save_table(table, 'x', run, index=False)
    expected = ['arm', 'mm', 'n'], [['a|b', '1.235', '1'], ['c', '', '20']], [False, True, True]
    assert _rows(tmp_path / 'run' / 'x.csv') == expected
    (tmp_path / 'long.csv').write_text('n\n' + '\n'.join(map(str, range(100))))
    assert _table(tmp_path / 'long.csv').count('<tr>') == 61 and '40 more rows in long.csv' in _table(
        tmp_path / 'long.csv'
    )
    assert list(csv.reader(io.StringIO((tmp_path / 'run' / 'x.csv').read_text())))[1][0] == 'a|b'


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_the_page_stays_small(tmp_path):
    "Photographs of noise are the hardest; a drawing among them is left as it is."
    with open_run(tmp_path / 'run', {}, figures=tmp_path / 'f') as run:
        noise = figure((6.9, 4), noise=200)
        for artefact in ('semi_supervision', 'fig1_pose_retrieval', 'fig2_embedding_space'):
            save_figure(noise, artefact, run, formats='png')
        save_figure(figure(), 'drawing', run, formats='png')
    path = write_report(tmp_path / 'f')
    assert path.stat().st_size < 1_000_000 < sum(file.stat().st_size for file in (tmp_path / 'f').glob('*.png'))
    page = Page(path.read_text())
    assert len(page.all('img')) == 4
    assert base64.b64encode((tmp_path / 'f' / 'drawing.png').read_bytes()).decode() in path.read_text()
    assert {attrs['width'] for attrs in page.all('img')[:1]} == {attrs['width'] for attrs in page.all('img')[1:-1]}


def test_transparent_pictures_lie_on_white(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(np.dstack([rng.integers(0, 255, (400, 400, 3)), np.zeros((400, 400))]).astype('uint8')).save(
        tmp_path / 'x.png'
    )
    with Image.open(io.BytesIO(_png(tmp_path / 'x.png', 5000))) as image:
        assert image.convert('RGB').getextrema() == ((255, 255),) * 3


def test_white_stays_white(tmp_path):
    with open_run(tmp_path / 'run', {}) as run:
        path = save_figure(figure((6.9, 3)), 'x', run, formats='png', dpi=400)
    with Image.open(io.BytesIO(_png(path, 100_000))) as image:
        assert image.width == 1400 and image.convert('RGB').getpixel((2, 2)) == (255, 255, 255)
        assert max(image.convert('RGB').getcolors(1 << 20))[1] == (255, 255, 255)


@pytest.mark.parametrize(
    'sizes, total, share',
    [([10, 20, 30], 100, 30), ([10, 100, 100], 110, 50), ([50, 50], 60, 30), ([], 10, 0), ([5], 3, 3)],
)
def test_what_small_pictures_leave_goes_to_the_large(sizes, total, share):
    assert _allowance(sizes, total) == share and sum(min(size, share) for size in sizes) <= total


def test_html_reader_sees_what_is_not_closed():
    with pytest.raises(AssertionError):
        Page('<p><b>x</p>')
    assert Page(html.escape('<p>')).text == ['<p>']


def test_durations_are_ranges_by_processor(tmp_path):
    "Two batches on one processor, one on another, one that was made in several goes."

    def batch(name, device, *seconds):
        (tmp_path / name).mkdir()
        took = (
            dict(
                seconds=dict(zip(('stores', 'trainings', 'analyses'), seconds)),
                trainings=27,
                at_a_time=2,
                device=device,
            )
            if seconds
            else None
        )
        (tmp_path / name / 'report.json').write_text(json.dumps(dict(results=dict(took=took))))

    batch('laptop-a', 'EPYC, AVX2', 60, 900, 60)
    batch('laptop-b', 'EPYC, AVX2', 0, 1400, 100)
    batch('laptop-c', 'Xeon, AVX512', 10, 20, 30)
    batch('laptop-d', 'EPYC, AVX2')
    folders = sorted(tmp_path.glob('laptop-*'))
    assert (
        took_in_words(folders) == '17 to 25 minutes with 2 workers (EPYC, AVX2); a minute with 2 workers (Xeon, AVX512)'
    )
    assert took_in_words([]) == took_in_words(folders[3:]) == ''


# ---- tables in words -------------------------------------------------------------------------------------------------


def write(path, table):
    table.to_csv(path, index=False)
    return path


def test_a_mean_and_its_interval_are_one_cell(tmp_path):
    table = pd.DataFrame(
        {
            'arm': ['joint', 'paper-joint'],
            'mpjpe_mm': [89.512, 100],
            'mpjpe_mm low': [86.0, np.nan],
            'mpjpe_mm high': [93.0, np.nan],
            'share_false': [0.05, 0.1],
            'share_false_low': [0.02, 0.08],
            'share_false_high': [0.09, 0.12],
            'closed': [-459.0, 50],
        }
    )
    path = write(tmp_path / 'x.csv', table)
    assert _rows(path)[:2] == (
        ['arm', 'mpjpe_mm', 'share_false', 'closed'],
        [
            ['joint', '89.5 (86.0 to 93.0)', '0.05 (0.02 to 0.09)', '-459'],
            ['paper-joint', '100', '0.1 (0.08 to 0.12)', '50'],
        ],
    )
    page = Page(_table(path))
    assert 'MPJPE, mm' in page.said and 'mpjpe_mm' not in page.said and 'joint (MCSS)' in page.said
    assert "the paper's way: batch normalisation" in page.said and 'A negative share of the gap' in page.said


def test_scores_have_a_column_each(tmp_path):
    rows = [
        ('studio', 'joint', score, k, value, value - 0.1, value + 0.1, 3)
        for score, value in (('MPJPE', 90.0), ('Hit', 0.5))
        for k in (1, 5)
    ]
    head = ['data', 'vector', 'score', 'K', 'mean', 'low', 'high', 'seeds']
    assert _rows(write(tmp_path / 'x.csv', pd.DataFrame(rows, columns=head)))[:2] == (
        ['data', 'vector', 'MPJPE @1', 'MPJPE @5', 'Hit @1', 'Hit @5'],
        [['studio', 'joint', '90 (89.9 to 90.1)', '90', '50.0 (40.0 to 60.0) %', '50 %']],
    )


@pytest.mark.parametrize('n, folded', [(12, False), (13, True)])
def test_long_tables_are_folded(tmp_path, n, folded):
    page = Page(_table(write(tmp_path / 'x.csv', pd.DataFrame({'n': range(n)}))))
    assert bool(page.all('details')) == folded and len(page.all('tr')) == n + 1


def test_whatever_experiments_leave_is_shown():
    "Every committed table."
    for path in sorted((Path(__file__).parents[2] / 'figures').glob('*/*.csv')):
        head, body, is_number = _rows(path)
        assert len(head) == len(is_number) and {len(row) for row in body} == {len(head)}, path
        Page(_table(path))
