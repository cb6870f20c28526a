"""Guards of mvssl.show.atlas: which images, neighbours against loops, refusals; the page in a browser, with a mouse."""

import io
import json
import re
import sys
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from browser import Browser, needs_chromium
from mvssl.show.atlas import (
    COLOUR_BY,
    KINDS,
    NearList,
    atlas,
    colours_of,
    neighbours_of,
    spread_instants,
    synthetic_label,
    thumbnails,
    write_atlas,
)
from mvssl.cli import app
from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.sources.synthetic import make_dataset

VIEWS = ['left', 'front', 'right']


class Found(NamedTuple):
    "As `mvssl.training.embed` gives it."

    z: np.ndarray
    instant: np.ndarray
    view: np.ndarray


def store(path, instants, odd=''):
    "Pictures of one colour each; some views missing."
    rng = np.random.default_rng(0)
    with DatasetWriter(
        path, name='plain', source='made up', licence='free', hz=10, stride=5, side=32, views=VIEWS
    ) as writer:
        for subject, n in instants.items():
            seen = rng.random((n, 3)) > 0.1
            seen[:, 0] = True
            frames = (
                np.broadcast_to(rng.integers(1, 256, (n, 3, 1, 1, 3), 'uint8'), (n, 3, 32, 32, 3))
                * seen[..., None, None, None]
            )
            writer.add(odd + subject, 'Walking', 'Walking 1', frames.astype('uint8'), seen=seen)
    return MultiviewDataset.open(path)


def embedded(ds, rows=None):
    "Embeddings in which the views of an instant are near each other."
    rng, rows = np.random.default_rng(1), np.arange(len(ds)) if rows is None else rows
    at, view = np.nonzero(ds.seen[rows])
    z = rng.normal(size=(len(ds), 16))[rows[at]] + 0.3 * rng.normal(size=(len(at), 16))
    return Found(z / np.linalg.norm(z, axis=1, keepdims=True), rows[at], view)


def labels_of(ds, found):
    return (
        ds.table.iloc[found.instant]
        .reset_index(drop=True)
        .assign(view=np.array(VIEWS)[found.view], instant=found.instant)
    )


# ---- which images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('most', [9, 10, 30, 47, 90, 500])
def test_instants_are_spread_over_subjects(tmp_path, most):
    ds = store(tmp_path / 's', {'A': 3, 'B': 40, 'C': 12})
    rows = spread_instants(ds, most)
    assert (np.diff(rows) > 0).all() and len(rows) * 3 <= most
    counts = ds.table.iloc[rows].groupby('subject').size()
    for name, n in {'A': 3, 'B': 40, 'C': 12}.items():
        assert counts[name] == n or counts[name] >= counts.max() - 1, 'who gives less has no more'
    assert len(rows) == len(ds) or most // 3 - len(rows) < 3
    assert (rows == spread_instants(ds, most)).all()


def test_instants_are_spread_over_time_and_keep_to_a_part(tmp_path):
    ds = store(tmp_path / 's', {'A': 3, 'B': 41})
    rows = spread_instants(ds.where(subject='B'), 15)
    assert rows.tolist() == [0, 10, 20, 30, 40]
    with pytest.raises(ValueError, match='max_images must be at least 6, one instant of 2 subjects in 3 views, got 5'):
        spread_instants(ds, 5)


# ---- pictures, neighbours, colours -----------------------------------------------------------------------------------


def test_thumbnails_are_the_pictures(tmp_path):
    from base64 import b64decode

    pictures = np.full((2, 24, 24, 3), [[[[200, 30, 90]]], [[[0, 120, 255]]]], 'uint8')
    for picture, uri in zip(pictures, thumbnails(pictures, most_px=12)):
        image = Image.open(io.BytesIO(b64decode(uri.removeprefix('data:image/jpeg;base64,'))))
        assert image.size == (12, 12) and abs(np.asarray(image).astype(int) - picture[0, 0]).max() < 12


@pytest.mark.parametrize('subjects', [{'A': 6, 'B': 7}, {'A': 9}])
def test_neighbours_are_those_of_a_loop(tmp_path, subjects):
    ds = store(tmp_path / 's', subjects)
    found = embedded(ds)
    table = labels_of(ds, found)
    lists = neighbours_of(found.z, table, k=4)
    d = np.linalg.norm(found.z[:, None] - found.z, axis=2)
    for one, may in zip(
        lists,
        [
            lambda i, j: True,
            lambda i, j: (
                table['subject'][i] != table['subject'][j]
                if len(subjects) > 1
                else table['instant'][i] != table['instant'][j]
            ),
        ],
    ):
        for i in range(len(d)):
            allowed = [j for j in range(len(d)) if table['view'][i] != table['view'][j] and may(i, j)]
            expected = sorted(allowed, key=lambda j: d[i, j])[:4]
            assert one.index[i].tolist() == expected
            np.testing.assert_allclose(one.distance[i], d[i, expected], atol=1e-6)


def test_one_view_has_no_neighbours_and_still_a_page():
    labels = dict(subject=['A'] * 12, view=['left'] * 12, instant=np.arange(12))
    lists = neighbours_of(np.random.default_rng(0).normal(size=(12, 4)), labels)
    assert all((one.index == -1).all() for one in lists)


def test_few_kinds_have_colours_of_their_own():
    colours, legend = colours_of(list('bbac'))
    assert colours == [KINDS[0], KINDS[0], KINDS[1], KINDS[2]]
    assert legend == [
        dict(name='b', colour=KINDS[0], count=2),
        dict(name='a', colour=KINDS[1], count=1),
        dict(name='c', colour=KINDS[2], count=1),
    ]


@pytest.mark.parametrize('n', [7, 8, 100])
def test_every_kind_has_its_colour_and_shows_on_white(n):
    legend = colours_of([f'{i:03d}' for i in range(n)])[1]
    assert len({entry['colour'] for entry in legend}) == n
    light = [
        max(int(entry['colour'][i : i + 2], 16) for i in (1, 3, 5))
        * min(int(entry['colour'][i : i + 2], 16) for i in (1, 3, 5))
        for entry in legend
    ]
    assert max(light) < 200 * 200


def test_time_is_a_ramp_even_when_it_stands_still():
    colours, legend = colours_of(np.array([3.0, 5, 4]))
    assert (
        (legend['low'], legend['high']) == (3, 5)
        and colours[0] == legend['ramp'][0]
        and colours[1] == legend['ramp'][-1]
        and colours[2] == legend['ramp'][4]
    )
    assert len(set(colours_of(np.zeros(4))[0])) == 1


# ---- the page as text ------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    ds = store(tmp_path_factory.mktemp('data') / 's', {'A': 20, 'B': 9, 'C': 14})
    found = embedded(ds)
    return ds, found, labels_of(ds, found)


def read(page, name):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize(
    'damage, message',
    [
        (dict(xy=np.zeros((3, 3))), r'xy must be finite, of shape \(N, 2\)'),
        (dict(xy=np.full((5, 2), np.nan)), 'xy must be finite'),
        (dict(xy=np.zeros((0, 2))), 'xy must be finite'),
        (dict(images=[''] * 4), 'images must have a row for each of the 5 points, got 4'),
        (
            dict(neighbours=[NearList('near', np.zeros((4, 2), int), np.zeros((4, 2)))]),
            "neighbours 'near' must have a row for each",
        ),
        (
            dict(neighbours=[NearList('near', np.full((5, 2), 5), np.zeros((5, 2)))]),
            "neighbours 'near' must be rows of the 5 points",
        ),
        (
            dict(neighbours=[NearList('near', np.zeros((5, 2), int), np.zeros((5, 3)))]),
            "neighbours 'near' must be rows",
        ),
    ],
)
def test_what_does_not_fit_is_refused(plain, damage, message):
    given = dict(
        xy=np.random.default_rng(0).normal(size=(5, 2)), images=[''] * 5, table=plain[2].iloc[:5], neighbours=[]
    )
    with pytest.raises(ValueError, match=message):
        atlas(**given | damage)


def test_a_page_is_whole_or_not_there(plain, tmp_path, monkeypatch):
    ds, found, _ = plain
    monkeypatch.setattr('mvssl.show.atlas.tsne_map', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atlas(tmp_path / 'new' / 'a.html', found, ds)
    assert not list(tmp_path.iterdir())


def test_without_bokeh_it_says_what_to_install(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, 'bokeh.embed', None)
    with pytest.raises(ValueError, match=r"bokeh is not installed .*pip install 'mvssl\[viz\]'"):
        atlas(np.eye(2), [''] * 2, plain[2].iloc[:2], [])


def test_a_network_that_has_collapsed_can_be_looked_at(plain, tmp_path):
    "All images at one place, which the page says; its map is as wide as a picture."
    ds, found, _ = plain
    page = write_atlas(tmp_path / 'a.html', found._replace(z=np.repeat(found.z[:1], len(found.z), 0)), ds).read_text()
    assert 'The network puts them all at one place: it has collapsed' in page
    data = read(page, 'page')
    assert (
        min(data['extent']) > 0
        and data['pictures']
        and all(np.isfinite(one['distance']).all() for one in data['neighbours'])
    )


def test_a_page_says_what_it_shows(plain, tmp_path):
    ds, _, _ = plain
    rows = spread_instants(ds, 90)
    page = write_atlas(tmp_path / 'a.html', embedded(ds, rows), ds, 'My <people>', {'run': 'a&b'}).read_text()
    assert (
        '<html lang="en">' in page
        and '<title>My &lt;people&gt;</title>' in page
        and 'name="viewport"' in page
        and '<dd>a&amp;b</dd>' in page
        and ds.checksum in page
    )
    assert re.search(
        rf'Shown are {ds.seen[rows].sum()} images: {len(rows)} instants of 3 subjects in 3 views, '
        rf'evenly from {ds.seen.sum()} images',
        page,
    )
    assert 'class="label"' not in page, 'nothing of it is synthetic'
    data = read(page, 'page')
    assert (
        data['colour_by'] == list(COLOUR_BY)
        and [len(one['index']) for one in data['neighbours']] == [ds.seen[rows].sum()] * 2
    )


@pytest.mark.parametrize(
    'extra, label',
    [
        ({}, ''),
        ({'synthetic': True}, 'synthetic people'),
        ({'synthetic': 'real motion, synthetic views'}, 'real motion, synthetic views'),
        ({'synthetic': False}, ''),
    ],
)
def test_what_is_synthetic_is_labelled(extra, label):
    class Store:
        pass

    made = Store()
    made.extra = extra
    assert synthetic_label(made) == label


# ---- the page in a browser -------------------------------------------------------------------------------------------

WHERE = """(i => {
    const doc = Bokeh.documents[0], plot = doc.get_model_by_name('plot')
    const {x, y} = doc.get_model_by_name('points').data_source.data
    const box = document.getElementById('map').getBoundingClientRect()
    const share = (value, range) => (value - range.start)/(range.end - range.start)
    return [box.x + share(x[i], plot.x_range)*box.width, box.y + (1 - share(y[i], plot.y_range))*box.height]
})(%d)"""


@pytest.fixture(scope='module')
def browser():
    with Browser() as found:
        yield found


@pytest.fixture(scope='module')
def file(plain, tmp_path_factory):
    return write_atlas(tmp_path_factory.mktemp('page') / 'atlas.html', plain[1], plain[0])


@pytest.fixture
def page(browser, file):
    return opened(browser, file)


def opened(browser, file, *size):
    page = browser.open(file, *size)
    try:
        page.wait_for("document.body.dataset.ready === 'true'")
    finally:
        assert page.complaints == []
    page.value("document.getElementById('pictures').click()")  # points are seen without
    page.settle()
    return page


def a_lonely_point(page, n, among=None):
    "A point that no other is near to, and where it is on the screen."
    at = np.array([page.value(WHERE % i) for i in range(n)])
    far = np.linalg.norm(at[:, None] - at, axis=2) + 1e6 * np.eye(n)
    i = int(np.where(np.ones(n, bool) if among is None else among, far.min(1), 0).argmax())
    assert far[i].min() > 13
    return i, at[i]


def colour_at(page, at):
    image = Image.open(io.BytesIO(page.picture())).convert('RGB')
    return np.array(image.getpixel((round(at[0]), round(at[1]))), int)


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@needs_chromium
def test_it_opens_without_network_and_without_complaint(page, file):
    assert page.requests == [file.as_uri()]
    assert (
        page.value('document.documentElement.lang') == 'en'
        and page.value('document.title') == 'Atlas of poses: plain'
        and page.value("!!document.querySelector('meta[name=viewport]')")
    )
    assert page.value("document.querySelectorAll('#legend button').length") == 3
    page.value("document.getElementById('by').focus()")
    assert page.complaints == []


@needs_chromium
def test_it_cannot_reach_the_network(page):
    assert page.value("fetch('https://example.org/x').then(() => 'reached', error => error.name)") == 'TypeError'
    assert any('Content Security Policy' in text for text in page.complaints), (
        'refused by the page itself, not by the lack of a network'
    )


@needs_chromium
def test_hover_shows_the_image(page, plain):
    _, found, table = plain
    i, at = a_lonely_point(page, len(table))
    assert page.value("document.getElementById('tip').hidden")
    page.point_at(*at)
    shown = page.wait_for(
        """(() => { const img = document.querySelector('#tip img'); return img && img.complete && {
        px: img.naturalWidth, box: img.getBoundingClientRect().toJSON(), src: img.src, text: img.parentNode.textContent
        } })()"""
    )
    assert (
        shown['px'] == 32
        and 50 < shown['box']['width'] < 200
        and 0 <= shown['box']['x'] <= 1440 - shown['box']['width']
        and shown['box']['height'] > 0
    )
    assert shown['src'] == page.value(f"Bokeh.documents[0].get_model_by_name('points').data_source.data.image[{i}]")
    assert (
        table['subject'][i] in shown['text']
        and table['view'][i] in shown['text']
        and f"{table['time_s'][i]:.2f} s" in shown['text']
    )
    left = np.array([page.value(WHERE % j) for j in range(len(table))]).min(0) - 40
    page.point_at(*left)
    assert page.value("document.getElementById('tip').hidden"), 'away from all points'


@needs_chromium
def test_click_shows_the_neighbours(page, plain):
    _, found, table = plain
    i, at = a_lonely_point(page, len(table))
    page.click(*at)
    page.wait_for(f"document.getElementById('chosen').dataset.row === '{i}'")
    lists = page.value(
        """[...document.querySelectorAll('.near')].map(list => [...list.querySelectorAll('button')].map(b => ({
        row: +b.dataset.row, same: b.className === 'same', text: b.innerText, px: b.querySelector('img').naturalWidth
        })))"""
    )
    for cards, one in zip(lists, neighbours_of(found.z, table), strict=True):
        assert [card['row'] for card in cards] == one.index[i].tolist()
        for card, distance in zip(cards, one.distance[i]):
            j = card['row']
            assert (
                card['px'] == 32
                and table['view'][j] in card['text']
                and table['view'][j] != table['view'][i]
                and f'distance {distance:.2f}' in card['text']
            )
            assert card['same'] == ('same instant' in card['text']) == (table['instant'][j] == table['instant'][i])
    assert lists[0][0]['same'], 'the embedding was made so'
    assert (
        page.value("document.querySelector('aside h2 span').textContent")
        == f"{sum(card['same'] for card in lists[0])} of 6 show the same instant"
    )
    marked = page.value("Array.from(Bokeh.documents[0].get_model_by_name('near').data_source.data.x)")
    assert len(marked) == len({card['row'] for cards in lists for card in cards})


@needs_chromium
def test_a_neighbour_can_be_clicked_in_turn(page):
    first = page.value("document.getElementById('chosen').dataset.row")
    other = page.value("document.querySelector('.near button').dataset.row")
    page.value("document.querySelector('.near button').scrollIntoView()")
    x, y = page.value(
        "(r => [r.x + r.width/2, r.y + r.height/3])(document.querySelector('.near button').getBoundingClientRect())"
    )
    page.click(x, y)
    assert page.value("document.getElementById('chosen').dataset.row") == other != first


@needs_chromium
@pytest.mark.parametrize('by', COLOUR_BY)
def test_the_select_changes_the_colours(page, plain, by):
    table = plain[2]
    before = 'view' if by == 'subject' else 'subject'
    colours = {name: np.array([rgb(colour) for colour in colours_of(table[name])[0]]) for name in (before, by)}
    i, at = a_lonely_point(page, len(table), abs(colours[before] - colours[by]).max(1) > 60)
    for name in (before, by):
        page.value(
            f"(s => {{ s.value = '{name}'; s.dispatchEvent(new Event('change')) }})(document.getElementById('by'))"
        )
    page.mouse('mouseMoved', 5, 5)
    expected = colours[by][i]
    assert abs(colour_at(page, at) - (0.85 * expected + 0.15 * 240)).max() < 16
    entries = page.value("document.querySelectorAll('#legend button').length")
    assert entries == (0 if by == 'time_s' else table[by].nunique()) and page.value(
        "!!document.querySelector('#legend .bar')"
    ) == (by == 'time_s')


@needs_chromium
def test_one_subject_alone(page, plain):
    table = plain[2]
    i, at = a_lonely_point(page, len(table))
    other = next(name for name in 'ABC' if name != table['subject'][i])
    for subject, is_shown in ((other, False), (table['subject'][i], True)):
        page.value(
            f"""(s => {{ s.value = '{subject}'; s.dispatchEvent(new Event('change'))
            }})(document.getElementById('subject'))"""
        )
        assert (
            page.value("document.getElementById('count').textContent")
            == f"{(table['subject'] == subject).sum()} of {len(table)} images"
        )
        page.point_at(5, 5)
        assert (abs(colour_at(page, at) - rgb('#e4e7ea')).max() < 12) != is_shown, 'grey if it is not shown'
        page.point_at(*at)
        assert page.value("document.getElementById('tip').hidden") != is_shown


@needs_chromium
def test_the_legend_singles_out_and_reset_undoes_it(page, plain):
    table = plain[2]
    page.value("document.querySelectorAll('#legend button')[1].click()")
    assert (
        page.value("document.getElementById('count').textContent")
        == f"{(table['subject'] == 'B').sum()} of {len(table)} images"
    )
    assert page.value("[...document.querySelectorAll('#legend button')].map(b => b.getAttribute('aria-pressed'))") == [
        'false',
        'true',
        'false',
    ]
    page.value("document.querySelectorAll('#legend button')[2].click()")
    assert (
        page.value("document.getElementById('count').textContent")
        == f"{table['subject'].isin(['B', 'C']).sum()} of {len(table)} images"
    )
    page.value("document.getElementById('reset').click()")
    assert page.value("document.getElementById('count').textContent") == f'{len(table)} images'


@needs_chromium
def test_wheel_zooms_drag_pans_reset_shows_all(page, plain):
    def ranges():
        return page.value(
            """(p => [p.x_range.start, p.x_range.end, p.y_range.start, p.y_range.end])(
            Bokeh.documents[0].get_model_by_name('plot'))"""
        )

    def scales(r):
        return page.value("(p => [p.inner_width, p.inner_height])(Bokeh.documents[0].get_model_by_name('plot'))") / (
            np.array(r[1::2]) - r[::2]
        )

    whole = ranges()
    x, y = page.value(
        "(r => [r.x + r.width/2, r.y + r.height/2])(document.getElementById('map').getBoundingClientRect())"
    )
    page.mouse('mouseWheel', x, y, deltaX=0, deltaY=-300)
    page.wait_for(f"Bokeh.documents[0].get_model_by_name('plot').x_range.start > {whole[0]} + .01")
    zoomed = ranges()
    for found in (whole, zoomed):
        assert np.ptp(scales(found)) / scales(found)[0] < 0.01, 'one scale in both directions'
    page.mouse('mousePressed', x, y, button='left', buttons=1, clickCount=1)
    for step in (10, 40, 80):
        page.mouse('mouseMoved', x + step, y, button='left', buttons=1)
    page.mouse('mouseReleased', x + 80, y, button='left', clickCount=1)
    page.wait_for(f"Bokeh.documents[0].get_model_by_name('plot').x_range.start < {zoomed[0]} - .001")
    page.value("document.getElementById('reset').click()")
    np.testing.assert_allclose(ranges(), whole)


@needs_chromium
def test_pictures_lie_on_the_map(page, plain):
    def shown():
        return page.value("Array.from(Bokeh.documents[0].get_model_by_name('pictures').view.filter.indices)")

    assert shown() == []
    page.value("document.getElementById('pictures').click()")
    page.settle()
    i = shown()[0]
    x, y = page.value(WHERE % i)
    colour = page.value(f"""new Promise(done => {{ const img = new Image()
        img.onload = () => {{
            const c = new OffscreenCanvas(32, 32).getContext('2d')
            c.drawImage(img, 0, 0)
            done([...c.getImageData(4, 4, 1, 1).data].slice(0, 3))
        }}
        img.src = Bokeh.documents[0].get_model_by_name('points').data_source.data.image[{i}] }})""")
    side = page.value(
        "(p => .05*p.inner_width/(p.x_range.end - p.x_range.start))(Bokeh.documents[0].get_model_by_name('plot'))"
    )
    assert abs(colour_at(page, (x - 0.3 * side, y - 0.3 * side)) - colour).max() < 16


@needs_chromium
def test_a_telephone_shows_it_too(browser, file):
    page = opened(browser, file, 390, 800)
    assert page.value('document.documentElement.scrollWidth') <= 390
    assert page.value("document.getElementById('map').getBoundingClientRect().height") > 300


@needs_chromium
def test_names_are_never_html(browser, tmp_path):
    ds = store(tmp_path / 's', {'A': 8, 'B': 8}, odd='<img src=x onerror=alert(1)></script>')
    page = opened(browser, write_atlas(tmp_path / 'odd.html', embedded(ds), ds, 'odd'))
    assert (
        page.value("document.querySelector('#legend button').textContent") == '<img src=x onerror=alert(1)></script>A'
    )
    assert page.value("document.querySelectorAll('img[src=x]').length") == 0 and page.complaints == []


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp('home')
    make_dataset(home / 'data' / 'studio', subjects=('S1', 'S9'), instants=24, side=32, progress=False)
    result = run(
        'train',
        '--data',
        home / 'data' / 'studio',
        '--run',
        home / 'runs' / 'quick',
        '--steps',
        2,
        '--width',
        8,
        '--pairs',
        2,
        '--labelled-images',
        4,
        '--validation',
        'none',
        '--test',
        'S9',
        '--set',
        'precision=fp32',
    )
    assert result.exit_code == 0, result.output
    return home


def test_the_command_finds_the_store_of_the_run(trained, tmp_path):
    result = run('atlas', trained / 'runs' / 'quick', '--out', tmp_path / 'new' / 'a.html', '--max-images', 40, '-k', 2)
    assert result.exit_code == 0, result.output
    assert '40 images of 2 subjects' in result.stdout and f"made: {tmp_path / 'new' / 'a.html'}" in result.stdout
    page = (tmp_path / 'new' / 'a.html').read_text()
    assert 'synthetic people' in page and 'on this store' in page and '<dd>quick, ' in page
    assert np.shape(read(page, 'page')['neighbours'][0]['index']) == (40, 2)


def test_the_command_takes_another_store_and_a_part(trained, tmp_path):
    store(tmp_path / 'plain', {'A': 9, 'B': 4})
    result = run(
        'atlas',
        trained / 'runs' / 'quick' / 'weights.safetensors',
        '--data',
        tmp_path / 'plain',
        '--subjects',
        'A',
        '--title',
        'Mine',
        '--out',
        tmp_path / 'a.html',
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / 'a.html').read_text()
    assert (
        '<title>Mine</title>' in page
        and 'on another store, checksum' in page
        and {entry['name'] for entry in read(page, 'page')['legends']['subject']} == {'A'}
    )


@pytest.mark.parametrize(
    'words, message',
    [
        (('--out', 'a.png'), '--out must end in .html'),
        (('--out', 'a.html', '--max-images', 7), 'max_images must be at least 8'),
        (('--out', 'a.html', '-k', 0), '-k must be at least 1'),
        (('--out', 'a.html', '--subjects', 'S2'), "no 'S2'"),
        (('--out', 'a.html', '--data', 'nowhere'), 'there is no folder'),
    ],
)
def test_the_command_refuses_in_one_line(trained, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run('atlas', trained / 'runs' / 'quick', *words)
    assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1, (
        result.output
    )
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_gone_is_asked_for(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'weights.safetensors').write_bytes((trained / 'runs' / 'quick' / 'weights.safetensors').read_bytes())
    result = run('atlas', tmp_path / 'weights.safetensors', '--out', 'a.html')
    assert (
        result.exit_code == 1
        and '--data must name the store to show' in result.stderr
        and not (tmp_path / 'a.html').exists()
    )
