"""Guards of mvssl.show.search: options against loops, pictures of all kinds, kept embeddings; command and page."""

import io
import itertools
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from browser import Browser, needs_chromium
from mvssl.cli import app
from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.encoder import PoseNet, save_weights
from mvssl.show.search import (
    Address,
    Gallery,
    find_image,
    origin,
    pictures_in,
    query_gallery,
    read_embeddings,
    read_query,
    read_square,
    results_figure,
    results_page,
    search,
    store_gallery,
    weights_of,
    write_embeddings,
)

VIEWS = ['left', 'front', 'right']


def make_store(path, subjects=('A', 'B'), sequences=2, n=6, seed=0):
    rng = np.random.default_rng(seed)
    with DatasetWriter(
        path, name='plain', source='made up', licence='free', hz=10, stride=5, side=32, views=VIEWS
    ) as writer:
        for subject, at in itertools.product(subjects, range(sequences)):
            seen = rng.random((n, 3)) > 0.2
            seen[:, 1] = True
            writer.add(
                subject,
                'Walking',
                f'Walking {at + 1}',
                rng.integers(1, 256, (n, 3, 32, 32, 3), 'uint8') * seen[..., None, None, None],
                seen=seen,
            )
    return MultiviewDataset.open(path)


def random_gallery(ds, seed=0):
    instant, view = np.nonzero(ds.seen)
    return store_gallery(
        ds, np.random.default_rng(seed).normal(size=(len(instant), 8)).astype('float32'), instant, view
    )


def some(gallery, rows):
    return Gallery(
        gallery.z[rows],
        gallery.labels.iloc[rows].reset_index(drop=True),
        lambda row: gallery.picture(rows[row]),
        gallery.synthetic,
    )


@pytest.fixture(scope='module')
def ds(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp('data') / 'plain')


# ---- the search ------------------------------------------------------------------------------------------------------

OPTIONS = list(itertools.product(('any', 'same', 'other'), ('any', 'same', 'other'), (True, False), (0, 0.15, 0.35)))


@pytest.mark.parametrize('views, subjects, same_instant, apart_s', OPTIONS)
def test_a_loop_finds_the_same(ds, views, subjects, same_instant, apart_s):
    all_of_it = random_gallery(ds)
    rows, labels = [0, 7, 20, 41], all_of_it.labels
    found = search(some(all_of_it, rows), all_of_it, 5, views, subjects, same_instant, apart_s)

    def agrees(what, asked, a, b):
        return asked == 'any' or (labels[what][a] == labels[what][b]) == (asked == 'same')

    for q, i in enumerate(rows):
        allowed = [
            j
            for j in range(len(labels))
            if j != i
            and agrees('view', views, i, j)
            and agrees('subject', subjects, i, j)
            and (same_instant or labels['instant'][i] != labels['instant'][j])
            and not (
                apart_s
                and all(labels[what][i] == labels[what][j] for what in ('subject', 'sequence'))
                and abs(labels['time_s'][i] - labels['time_s'][j]) < apart_s
            )
        ]
        d = np.linalg.norm(all_of_it.z.astype(float) - all_of_it.z[i], axis=1)
        mine = found[found['query'] == q]
        assert mine['row'].tolist() == sorted(allowed, key=d.__getitem__)[:5] and mine['rank'].tolist() == list(
            range(1, len(mine) + 1)
        )
        np.testing.assert_allclose(mine['distance'], d[mine['row']], atol=6e-5)
        assert mine['same_instant'].tolist() == [labels['instant'][j] == labels['instant'][i] for j in mine['row']]
        assert (mine['subject'].to_numpy() == labels['subject'].to_numpy()[mine['row']]).all()


def test_another_store_has_other_instants(ds, tmp_path):
    other = random_gallery(make_store(tmp_path / 'other', seed=1))
    found = search(some(random_gallery(ds), [0]), other, 3, same_instant=False, apart_s=1)
    assert len(found) == 3 and not found['same_instant'].any()
    everything = search(some(random_gallery(ds), [0]), other, len(other), same_instant=False, apart_s=9)
    assert len(everything) == len(other), 'nothing of another store is near in time'
    copy = random_gallery(MultiviewDataset.open(shutil.copytree(ds.path, tmp_path / 'copy')))
    assert len(search(some(random_gallery(ds), [0]), copy, len(copy))) == len(copy) - 1, (
        'the same store in another place is the same'
    )


def test_fewer_than_k_and_none(ds):
    all_of_it = random_gallery(ds)
    at = int(np.flatnonzero(all_of_it.labels['subject'] == 'A')[0])
    few = search(some(all_of_it, [at]), all_of_it, len(all_of_it), subjects='same')
    assert len(few) == (all_of_it.labels['subject'] == 'A').sum() - 1
    alone = some(all_of_it, [at])
    with pytest.raises(ValueError, match='nothing in the database may be found by query 1 of 1'):
        search(alone, alone, 1)


@pytest.mark.parametrize(
    'more, message',
    [
        (dict(k=0), r'k must lie in 1 \.\.\. \d+, the images of the database, got 0'),
        (dict(k=10_000), 'got 10000'),
        (dict(views='others'), "views must be 'same', 'other' or 'any', got 'others'"),
        (dict(subjects='Other'), "subjects must be"),
        (dict(apart_s=-1), 'apart_s must not be negative'),
        (dict(apart_s=float('nan')), 'apart_s must not be negative'),
    ],
)
def test_what_cannot_be_searched_is_refused(ds, more, message):
    all_of_it = random_gallery(ds)
    with pytest.raises(ValueError, match=message):
        search(some(all_of_it, [0]), all_of_it, **(dict(k=3) | more))


# ---- pictures --------------------------------------------------------------------------------------------------------


def truncated(data):
    return data[: len(data) // 2]


def huge(data):
    return (
        data[:16]
        + (lambda head: head + struct.pack('>I', zlib.crc32(b'IHDR' + head)))(
            struct.pack('>II', 60_000, 60_000) + data[24:29]
        )
        + data[33:]
    )


@pytest.mark.parametrize('damage', [truncated, huge, lambda data: b'', lambda data: b'GIF89a', lambda data: b'<svg/>'])
def test_damaged_pictures_are_named(tmp_path, damage):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), 'uint8')).save(whole, 'png')
    (tmp_path / 'bad.png').write_bytes(damage(whole.getvalue()))
    with pytest.raises(ValueError, match=r'bad\.png is no picture that can be read'):
        read_square(tmp_path / 'bad.png', 32)


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', '1', 'CMYK', 'I;16'])
def test_pictures_of_any_kind(tmp_path, mode):
    ending = 'jpg' if mode == 'CMYK' else 'png'
    (
        Image.fromarray(np.full((50, 70), 1000, 'uint16'))
        if mode == 'I;16'
        else Image.new('RGB', (70, 50), 'white').convert(mode)
    ).save(tmp_path / f'a.{ending}')
    square = read_square(tmp_path / f'a.{ending}', 40)
    assert square.shape == (40, 40, 3) and square.dtype == np.uint8


def test_a_picture_is_turned_as_the_camera_noted(tmp_path):
    image = Image.new('RGB', (60, 40), 'black')
    image.paste('white', (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / 'a.jpg', exif=exif, quality=95)
    square = read_square(tmp_path / 'a.jpg', 32).astype(int)
    assert square[:10].mean() > 240 and square[-10:].mean() < 15


RAMP = np.arange(0, 256, 4).astype('uint8')[None].repeat(64, 0)  # what each of these pictures shows


def saved(path, mode):
    "The ramp in a mode of Pillow; TIFF takes nearly all of them."
    grey = Image.fromarray(RAMP)
    image = {
        'I;16': lambda: Image.fromarray(RAMP.astype('uint16') * 257),
        'I;16B': lambda: Image.fromarray(RAMP.astype('>u2') * 257),
        'I': lambda: Image.fromarray(RAMP.astype('int32') * 257),
        'F': lambda: Image.fromarray(RAMP.astype('float32') / 255),
        'F of 255': lambda: Image.fromarray(RAMP.astype('float32')),
        'I of 8 bits': lambda: Image.fromarray(RAMP.astype('int32')),
    }.get(mode, lambda: grey.convert(mode))()
    image.save(path)
    return path


@pytest.mark.parametrize(
    'ending, mode',
    [
        *(('.png', mode) for mode in ('L', 'I;16', 'LA', 'P', 'RGB', 'RGBA')),
        *(
            ('.tif', mode)
            for mode in ('L', 'I;16', 'I;16B', 'I', 'I of 8 bits', 'F', 'F of 255', 'LA', 'P', 'RGB', 'RGBA', 'CMYK')
        ),
    ],
)
def test_a_picture_looks_the_same_in_every_mode(tmp_path, ending, mode):
    found = read_square(saved(tmp_path / f'a{ending}', mode), 64)
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - RAMP[..., None]).max() <= 1


def test_sixteen_bits_of_grey_are_scaled_by_all_they_could_hold(tmp_path):
    "A ramp from 5140 to 56540 of 65535, which was white all over: it is what its eight upper bits show."
    ramp = np.linspace(5140, 56540, 64).astype('uint16')[None].repeat(64, 0)
    Image.fromarray(ramp).save(tmp_path / 'gray16.png')
    found = read_square(tmp_path / 'gray16.png', 64)
    assert np.abs(found.astype(int) - (ramp // 257)[..., None]).max() <= 1 and (found.min(), found.max()) == (20, 220)


def test_one_bit_and_a_palette_and_what_is_transparent(tmp_path):
    Image.fromarray(RAMP > 127).save(tmp_path / 'a.png')
    assert set(np.unique(read_square(tmp_path / 'a.png', 64))) == {0, 255}
    clear = Image.new('RGBA', (8, 8), (255, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 255, 255))
    for image in (clear, clear.quantize(4)):
        image.save(tmp_path / 'b.png')
        found = read_square(tmp_path / 'b.png', 8)
        assert found[0, 0].tolist() == [0, 0, 255] and found[1:].min() == 255, 'a cut-out lies on white'


def test_a_picture_of_16_bits_is_turned_as_the_camera_noted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(RAMP.astype('uint16') * 257).save(tmp_path / 'a.png', exif=exif)
    assert np.abs(read_square(tmp_path / 'a.png', 64).astype(int) - RAMP.T[..., None]).max() <= 1


@pytest.mark.parametrize(
    'values, message',
    [
        ([[-3.0, 70000.0]], 'its values reach from -3 to 70000'),
        ([[0.0, np.nan]], 'nothing says which of them is white'),
    ],
)
def test_values_of_unknown_meaning_are_refused(tmp_path, values, message):
    Image.fromarray(np.array(values, 'float32')).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=message):
        read_square(tmp_path / 'a.tif', 8)


def test_what_nobody_put_there_is_no_picture(tmp_path):
    "What systems leave beside pictures; a link that leads nowhere was put there, and is named when it is opened."
    for name in ('a.png', '._a.png', '.hidden.jpg', 'Thumbs.db', '.DS_Store'):
        (tmp_path / name).write_bytes(b'x')
    (tmp_path / 'b.png').symlink_to(tmp_path / 'nowhere.png')
    assert [path.name for path in pictures_in(tmp_path)] == ['a.png', 'b.png']
    with pytest.raises(ValueError, match='b.png is no picture that can be read'):
        read_square(tmp_path / 'b.png', 32)


def test_pictures_in_folders(tmp_path):
    (tmp_path / 'b.JPG').write_bytes(b'')
    (tmp_path / 'deep').mkdir()
    (tmp_path / 'deep' / 'a.png').write_bytes(b'')
    (tmp_path / 'notes.txt').write_bytes(b'')
    (tmp_path / 'folder.png').mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in pictures_in(tmp_path)] == ['b.JPG', 'deep/a.png']


# ---- queries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'text, expected',
    [
        ('5:cam 1', Address('', 5, 'cam 1')),
        ('a/b:05:left', Address('a/b', 5, 'left')),
        ('C:\\data\\x:7:left', Address('C:\\data\\x', 7, 'left')),
        ('a:b:7:left', Address('a:b', 7, 'left')),
    ],
)
def test_addresses(text, expected):
    assert read_query(text) == expected


@pytest.mark.parametrize(
    'text', ['', 'x.png', 'left', 'a:left', ':left', 'store:-1:left', '1.5:left', 'http://a/b.png']
)
def test_what_is_no_query(text):
    with pytest.raises(ValueError, match='query must be a picture, STORE:INSTANT:VIEW or INSTANT:VIEW, got'):
        read_query(text)


def test_a_file_comes_before_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / '5:left').write_bytes(b'')
    assert str(read_query('5:left')) == '5:left'


def test_an_image_that_is_not_there(ds):
    lost, view = np.argwhere(~ds.seen)[0]
    with pytest.raises(ValueError, match=f'plain has no view {VIEWS[view]} of instant {lost}'):
        find_image(Address('', int(lost), VIEWS[view]), ds)


def test_queries_of_all_kinds_are_embedded(ds, tmp_path):
    torch.manual_seed(0)
    network = PoseNet(width=8)
    Image.fromarray(ds.frames[3][1]).save(tmp_path / 'same.png')
    made = query_gallery(
        network, [Address('', 3, 'front'), tmp_path / 'same.png', Address(str(ds.path), 3, 'front')], ds, 32
    )
    np.testing.assert_allclose(made.z, np.repeat(made.z[:1], 3, 0), atol=1e-6)
    assert (
        made.labels['instant'].tolist()[::2] == [3, 3]
        and made.labels['moment'][0] == made.labels['moment'][2] != made.labels['moment'][1]
    )
    assert (made.picture(0) == ds.frames[3][1]).all()
    with pytest.raises(ValueError, match='views asks for the view of every image'):
        search(made, random_gallery(ds), 1, views='other')


# ---- embeddings that are kept ----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('weights') / 'weights.safetensors'
    save_weights(path, PoseNet(width=8), dict(side=32))
    return path


@pytest.mark.parametrize('ending', ['npz', 'safetensors'])
def test_embeddings_come_back(ds, weights, tmp_path, ending):
    arrays, columns = (
        dict(z=np.random.default_rng(0).normal(size=(5, 4)).astype('float32'), instant=np.arange(5)),
        dict(view=['ä', 'b', 'ä', 'c', 'b']),
    )
    write_embeddings(tmp_path / f'z.{ending}', arrays, columns, origin(weights, ds))
    found = read_embeddings(tmp_path / f'z.{ending}', origin(weights, ds))
    assert (
        found.keys() == {'z', 'instant', 'view'}
        and (found['z'] == arrays['z']).all()
        and found['view'].tolist() == columns['view']
    )


@pytest.mark.parametrize('ending', ['npz', 'safetensors'])
@pytest.mark.parametrize(
    'damage, message',
    [
        (lambda data: b'', 'cannot be read'),
        (truncated, 'cannot be read'),
        (lambda data: b'x' * 100, 'cannot be read'),
        (None, 'there is none at'),
    ],
)
def test_damaged_embeddings_are_refused(ds, weights, tmp_path, ending, damage, message):
    path = tmp_path / f'z.{ending}'
    write_embeddings(path, dict(z=np.zeros((5, 400), 'float32')), dict(view=['a'] * 5), origin(weights, ds))
    whole = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage(whole))
    with pytest.raises(ValueError, match=message) as refusal:
        read_embeddings(path, origin(weights, ds))
    assert '\n' not in str(refusal.value) or damage is truncated


def test_embeddings_of_before_are_refused(ds, weights, tmp_path):
    np.savez(tmp_path / 'z.npz', z=np.zeros((5, 4)))
    with pytest.raises(ValueError, match='this version of mvssl embed wrote'):
        read_embeddings(tmp_path / 'z.npz', origin(weights, ds))


def test_no_pickle_is_loaded(ds, weights, tmp_path):
    np.savez(tmp_path / 'z.npz', z=np.array([{}], dtype=object), origin=np.array('{}'))
    with pytest.raises(ValueError, match='cannot be read.*allow_pickle'):
        read_embeddings(tmp_path / 'z.npz', origin(weights, ds))


def test_a_folder_is_known_by_names_and_bytes(weights, tmp_path):
    for name in 'ab':
        Image.new('RGB', (40, 40), 'red' if name == 'a' else 'blue').save(tmp_path / f'{name}.bmp')
    before = origin(weights, tmp_path)
    assert origin(weights, shutil.copytree(tmp_path, tmp_path.parent / f'{tmp_path.name}-copy')) == before
    a, b = (tmp_path / 'a.bmp').read_bytes(), (tmp_path / 'b.bmp').read_bytes()
    assert len(a) == len(b)
    (tmp_path / 'a.bmp').write_bytes(b), (tmp_path / 'b.bmp').write_bytes(a)
    assert origin(weights, tmp_path) != before, 'two pictures that changed places'


def test_weights(tmp_path, weights):
    assert weights_of(weights.parent) == weights_of(weights) == weights
    with pytest.raises(ValueError, match='there is no weights.safetensors in'):
        weights_of(tmp_path)
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match='it is not finished, continue it'):
        weights_of(tmp_path)


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')


@pytest.fixture(scope='module')
def photos(tmp_path_factory, ds):
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'deep').mkdir()
    for at in range(4):
        Image.fromarray(ds.frames[at][1]).resize((50, 80 if at else 50)).save(
            folder / ('deep' if at % 2 else '.') / f'{at}.png'
        )
    return folder


def test_search_in_a_store(ds, weights, tmp_path):
    result = run(
        'search',
        '--query',
        '3:front',
        '--query',
        f'{ds.path}:9:front',
        '--database',
        ds.path,
        '--run',
        weights,
        '-k',
        4,
        '--views',
        'other',
        '--no-same-instant',
        '--out',
        tmp_path / 'new' / 'page.html',
        '--csv',
        tmp_path / 't.csv',
    )
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / 't.csv')
    assert (
        table['rank'].tolist() == [1, 2, 3, 4] * 2
        and set(table['query']) == {'3:front', f'{ds.path}:9:front'}
        and 'front' not in set(table['view'])
        and 3 not in set(table['instant'][:4])
    )
    assert str(table['distance'][0]) in result.stdout and result.stdout.count('made: ') == 2
    page = (tmp_path / 'new' / 'page.html').read_text()
    assert page.count('<figure') == 10 and 'Nearest poses' in page and 'class="label"' not in page


@pytest.mark.parametrize('ending', ['png', 'pdf', 'html'])
def test_search_among_photographs(photos, weights, tmp_path, ending):
    result = run(
        'search',
        '--query',
        photos / '0.png',
        '--database',
        photos,
        '--run',
        weights,
        '-k',
        3,
        '--out',
        tmp_path / f'found.{ending}',
    )
    assert result.exit_code == 0, result.output
    assert 'deep/1.png' in result.stdout and result.stdout.count('0.png') == 1, 'a picture does not find itself'
    assert (tmp_path / f'found.{ending}').read_bytes()[:4] == {'png': b'\x89PNG', 'pdf': b'%PDF', 'html': b'<!do'}[
        ending
    ]


@pytest.mark.parametrize('ending', ['npz', 'safetensors'])
def test_embeddings_are_used_again(ds, photos, weights, tmp_path, ending, monkeypatch):
    kept = tmp_path / f'z.{ending}'
    for data, query in ((ds.path, '3:front'), (photos, photos / '0.png')):
        assert run('embed', '--run', weights, '--data', data, '--out', kept).exit_code == 0
        plain = run('search', '--query', query, '--database', data, '--run', weights, '-k', 3)
        with monkeypatch.context() as patch:
            patch.setattr('mvssl.show.search.embed', lambda *a, **k: 1 / 0)
            again = run('search', '--query', query, '--database', data, '--run', weights, '-k', 3, '--embeddings', kept)
        assert again.exit_code == 0 and again.stdout == plain.stdout
    refused = run('search', '--query', '3:front', '--database', ds.path, '--run', weights, '--embeddings', kept)
    assert refused.exit_code == 1 and 'embeddings must be made from these images' in refused.stderr
    torch.manual_seed(7)
    save_weights(tmp_path / 'others.safetensors', PoseNet(width=8), dict(side=32))
    refused = run(
        'search',
        '--query',
        photos / '0.png',
        '--database',
        photos,
        '--run',
        tmp_path / 'others.safetensors',
        '-k',
        3,
        '--embeddings',
        kept,
    )
    assert refused.exit_code == 1 and 'embeddings must be made from these weights' in refused.stderr


@pytest.mark.parametrize(
    'words, message',
    [
        (dict(query='nothing.png'), 'there is no such file'),
        (dict(query='0:top'), 'query must name a view of plain'),
        (dict(query='99:front'), 'query must name an instant of plain, 0 ... 23, got 99'),
        (dict(query='elsewhere:0:front'), 'there is no folder'),
        (dict(database='nowhere'), '--database must be a store or a folder of pictures, there is no folder nowhere'),
        (dict(database='.'), '--database must be a store or a folder of pictures, . is neither'),
        (dict(run='nowhere'), 'there is nothing at nowhere'),
        (dict(k=500), 'k must lie in 1 ...'),
        (dict(k=0), 'k must lie in 1 ...'),
        (dict(out='page.gif'), '--out must end in .html, .htm, .png, .pdf, got page.gif'),
        (dict(csv='t.txt'), '--csv must end in .csv'),
        (dict(views='left'), 'views must be'),
        (dict(embeddings='z.npz'), 'there is none at z.npz'),
        (dict(query='PHOTO', views='other'), 'views asks for the view'),
        (dict(query='PHOTO', apart=1), 'apart_s asks for the sequence'),
        (dict(query='BROKEN'), 'broken.png is no picture that can be read'),
    ],
)
def test_the_command_refuses_in_one_line_and_before_it_computes(
    ds, photos, weights, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.png').write_bytes(b'no picture') if words.get('query') == 'BROKEN' else None
    monkeypatch.setattr('mvssl.show.search.embed', lambda *a, **k: 1 / 0)
    before = sorted(tmp_path.iterdir())
    given = {
        name: {'PHOTO': photos / '0.png', 'BROKEN': 'broken.png'}.get(value, value)
        for name, value in (dict(query='3:front', database=ds.path, run=weights, out='page.html') | words).items()
    }
    result = run(
        'search', *(word for name, value in given.items() for word in ('-k' if name == 'k' else f'--{name}', value))
    )
    assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1, (
        result.output
    )
    assert sorted(tmp_path.iterdir()) == before


# ---- to look at ------------------------------------------------------------------------------------------------------


def test_a_figure_holds_the_pictures(ds):
    all_of_it = random_gallery(ds)
    queries = some(all_of_it, [0, 9])
    found = search(queries, all_of_it, 3)
    figure = results_figure(queries, all_of_it, found)
    assert [len(ax.images) for ax in figure.axes] == [1] * 8
    assert (np.asarray(figure.axes[5].images[0].get_array()) == all_of_it.picture(found['row'][3])).all()
    assert f"distance {found['distance'][3]:.3f}" in figure.axes[5].texts[0].get_text()


def test_synthetic_people_are_labelled(ds):
    all_of_it = random_gallery(ds)
    for label in ('', 'synthetic people'):
        gallery = replace(all_of_it, synthetic=label)
        found = search(some(gallery, [0]), gallery, 2)
        assert ('class="label">synthetic people<' in results_page(some(gallery, [0]), gallery, found)) == bool(label)
        assert bool(results_figure(some(gallery, [0]), gallery, found).get_suptitle()) == bool(label)


@needs_chromium
def test_the_page_in_a_browser(ds, tmp_path):
    all_of_it = random_gallery(ds)
    odd = replace(all_of_it, labels=all_of_it.labels.assign(sequence='<img src=x onerror=alert(1)>'))
    queries = some(odd, [0, 9])
    found = search(queries, odd, 4)
    (tmp_path / 'page.html').write_text(results_page(queries, odd, found, 'Searched: <all>.'))
    with Browser() as browser:
        page = browser.open(tmp_path / 'page.html')
        assert page.value("[...document.images].map(img => img.complete && img.naturalWidth)") == [32] * 10
        assert page.value("document.querySelectorAll('.same').length") == found['same_instant'].sum()
        assert (
            page.value("document.querySelector('figure div:nth-of-type(3)').textContent")
            == '<img src=x onerror=alert(1)>'
        )
        assert page.requests == [(tmp_path / 'page.html').as_uri()] and page.complaints == []
