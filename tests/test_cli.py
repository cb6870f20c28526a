"""The command line as a user meets it: what it prints, where, and the exit status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from human36m_fixture import SEQUENCES, write_human36m
from invented_3dhp import write_sequence
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from mvssl.ground import progress
from mvssl.batches import Augmentation
from mvssl.cli import _config, app, data, describe
from mvssl.commands.terminal import extra_of
from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.sources.synthetic import make_dataset
from mvssl.training import OPTIMIZERS, TrainConfig

SETTINGS = dict(name='tiny', source='made up', licence='free', hz=10, stride=5, side=8, views=['left', 'right'])


@pytest.fixture
def store(tmp_path):
    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        for subject, action, n in (('S1', 'Eating', 3), ('S1', 'Walking', 4), ('S5', 'Walking', 5)):
            seen = np.ones((n, 2), bool)
            seen[0, 1] = False
            writer.add(subject, action, f'{action} 1', np.full((n, 2, 8, 8, 3), 9, 'uint8'), seen=seen)
    return tmp_path / 'tiny'


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')


def row(text, *cells):
    return any(line.split() == [str(cell) for cell in cells] for line in text.splitlines())


def test_a_sound_store(store):
    result = run('data', 'check', store)
    assert result.exit_code == 0 and not result.stderr
    assert (
        row(result.stdout, 'S1', 'S5', 'all')
        and row(result.stdout, 'Eating', 3, 0, 3)
        and row(result.stdout, 'Walking', 4, 5, 9)
        and row(result.stdout, 'all', 7, 5, 12)
    )
    assert (
        row(result.stdout, 'left', 'right')
        and row(result.stdout, 'S1', 7, 5)
        and row(result.stdout, 'S5', 5, 4)
        and row(result.stdout, 'all', 12, 9)
    )
    assert 'labelled: 0 of 12 instants (0.0%)' in result.stdout and 'every byte' in result.stdout
    ds = MultiviewDataset.open(store)
    size = f'{ds.disk_bytes / 1000:.4g} kB'
    assert (
        ds.checksum in result.stdout
        and f'12 instants x 2 views of 8 px at 10 Hz (stride 5), {size} on disk' in result.stdout
    )


def test_share_of_labels(tmp_path):
    poses = np.full((4, 17, 3), np.nan, 'float32')
    poses[0] = np.linspace(0, 1700, 17)[:, None] * [0, 0, 1]
    with DatasetWriter(tmp_path / 'tiny', **SETTINGS) as writer:
        writer.add('S1', 'Eating', 'Eating 1', np.ones((4, 2, 8, 8, 3), 'uint8'), poses)
    assert 'labelled: 1 of 4 instants (25.0%)' in describe(MultiviewDataset.open(tmp_path / 'tiny'))


def test_a_damaged_frame(store):
    with open(store / 'frames.npy', 'r+b') as file:
        file.seek(1000), file.write(b'x')
    result = run('data', 'check', store)
    assert result.exit_code == 1 and row(result.stdout, 'Walking', 4, 5, 9) and 'sound' not in result.stdout
    assert (
        result.stderr.startswith('error: frames.npy, checksum: ')
        and 'make the store again' in result.stderr
        and result.stderr.count('\n') == 1
    )
    quick = run('data', 'check', store, '--no-checksums')
    assert quick.exit_code == 0 and 'checksums not compared' in quick.stdout


def test_every_problem_is_a_line(store):
    os.truncate(store / 'poses.npy', 200)
    (store / 'seen.npy').unlink()
    result = run('data', 'check', store)
    assert result.exit_code == 1 and not result.stdout
    lines = result.stderr.splitlines()
    assert [line.split(':')[1].strip() for line in lines] == ['seen.npy, file', 'poses.npy, size'] and all(
        line.startswith('error: ') for line in lines
    )


@pytest.mark.parametrize(
    'name, message',
    [
        ('tyni', 'error: dataset.json, path: there is no folder'),
        ('new', 'new.partial is not finished. Run the command'),
        ('new.partial', 'new.partial is not finished. Run the command'),
        ('photos', 'error: dataset.json, file: missing in'),
    ],
)
def test_no_store(tmp_path, name, message):
    (tmp_path / 'photos').mkdir()
    DatasetWriter(tmp_path / 'new', **SETTINGS).close()
    result = run('data', 'check', tmp_path / name)
    assert result.exit_code == 1 and not result.stdout and message in result.stderr and result.stderr.count('\n') == 1


def test_slips(store):
    for words, message in (
        (['data', 'check'], 'Missing argument'),
        (['data', 'chek', store], "Did you mean 'check'"),
        (['data', 'check', store, '--fast'], 'No such option'),
    ):
        result = run(*words)
        assert result.exit_code == 2 and message in result.stderr and 'Traceback' not in result.output


def test_help_teaches(store):
    for words in ([], ['data']):
        assert 'check' in run(*words, '--help').stdout or 'data' in run(*words, '--help').stdout
    text = run('data', 'check', '--help').stdout
    for word in ('exit', 'status', 'mvssl data check PATH && mvssl train', '--no-checksums', 'Folder of the store'):
        assert word in text


def test_the_installed_script(store):
    script = Path(sys.executable).with_name('mvssl')
    assert script.exists() or shutil.which('mvssl')
    for path, status in ((store, 0), (store.with_name('tyni'), 1)):
        ran = subprocess.run(
            [script if script.exists() else 'mvssl', 'data', 'check', path], capture_output=True, text=True
        )
        assert (
            ran.returncode == status and 'Traceback' not in ran.stderr and 'checksums:' not in ran.stderr
        )  # no bar without a terminal


GROUPS = ([], ['data'])
COMMANDS = [
    *(['data', name] for name in ('check', 'make', 'mocap', 'human36m', 'mpi-inf-3dhp', 'videos')),
    *([name] for name in ('train', 'embed', 'score', 'search', 'atlas', 'export', 'reproduce', 'status')),
]


def help_of(*words):
    return CliRunner().invoke(
        app, [*words, '--help'], prog_name='mvssl', env=dict(COLUMNS='80', TERMINAL_WIDTH='80', NO_COLOR='1')
    )


@pytest.mark.parametrize('words', [*GROUPS, *COMMANDS], ids=' '.join)
def test_help_fits_eighty_columns_and_names_things_as_its_text_does(words):
    "Arguments are RAW and not {raw}, lists are not <list[str]>."
    result = help_of(*words)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and [line for line in lines if len(line) > 80] == []
    assert '{' not in lines[0] and 'list[' not in result.stdout
    for name in re.findall(r'[A-Z]{2,}', lines[0].partition('[OPTIONS]')[2].partition('COMMAND')[0]):
        assert f'\n  {name} <path>' in result.stdout


def test_every_command_is_listed_with_its_whole_sentence():
    named = {tuple(words) for words in COMMANDS}
    for group in GROUPS:
        listed = ' '.join(help_of(*group).stdout.partition('Commands:')[2].split())
        for words in named:
            if list(words[:-1]) == group:
                whole = ' '.join(help_of(*words).stdout.split('\n\n')[1].split())
                assert f'{words[-1]} {whole}' in listed and whole.endswith('.')


def test_the_version_is_told():
    from mvssl import __version__

    assert run('--version').stdout == f'mvssl {__version__}\n'


def test_a_shell_completes_commands_and_options():
    def completed(*words):
        env = os.environ | {
            '_MVSSL_COMPLETE': 'complete_bash',
            'COMP_WORDS': ' '.join(['mvssl', *words]),
            'COMP_CWORD': str(len(words)),
        }
        done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert completed('tr') == ['train', 'trained'] and completed('data', 'm') == ['make', 'mocap', 'mpi-inf-3dhp']
    assert '--checksums' in completed('data', 'check', '--ch')


ABSENT = """
import sys

class Absent:
    "Makes packages look as if nobody had installed them."
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in absent:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

absent = set(sys.argv.pop(1).split(','))
sys.meta_path.insert(0, Absent())
from mvssl.cli import main
main()
"""
WITHOUT = (
    'onnx,onnxscript,onnxruntime,sklearn,openTSNE,bokeh,av,cdflib,h5py,papermill,joblib,jupyter_client,distributed,dask'
)


@pytest.mark.parametrize(
    'words, extra',
    [
        (('atlas', 'RUN', '--data', 'STORE', '--out', 'OUT/atlas.html'), 'viz'),
        (('export', 'RUN', '--out', 'OUT/network.onnx'), 'export'),
        (('data', 'videos', 'FILMS', '--out', 'OUT/store'), 'data'),
        (('data', 'human36m', 'H36M', '--out', 'OUT/store'), 'data'),
        (('data', 'mpi-inf-3dhp', '3DHP', '--cameras', '0,2', '--incomplete', '--out', 'OUT/store'), 'data'),
        (('reproduce', '--profile', 'smoke', '--out', 'OUT/study'), 'notebooks'),
        (('reproduce', '--profile', 'smoke', '--out', 'OUT/study', '--plan'), 'notebooks'),
    ],
    ids=lambda value: value if isinstance(value, str) else ' '.join(value[:2]),
)
def test_without_an_extra_it_is_named_before_anything_is_made(studio, trained, tmp_path, words, extra):
    "In a process of its own where the extras look as if they were not installed."
    for name in ('films', 'h36m', '3dhp', 'out'):
        (tmp_path / name).mkdir()
    for name in ('films/cam01.mp4', 'films/cam02.mp4'):
        (tmp_path / name).write_bytes(b'film')
    if 'H36M' in words:
        write_human36m(tmp_path / 'h36m', SEQUENCES[:1], n=10)
    if '3DHP' in words:
        write_sequence(tmp_path / '3dhp' / 'S1' / 'Seq1', 10)
    places = dict(RUN=trained, STORE=studio, FILMS='films', H36M='h36m')
    words = [str(places.get(word, word)).replace('OUT/', 'out/').replace('3DHP', '3dhp') for word in words]
    done = subprocess.run([sys.executable, '-c', ABSENT, WITHOUT, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert f"pip install 'mvssl[{extra}]'" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert list((tmp_path / 'out').iterdir()) == []


def test_extras_are_those_of_the_distribution():
    found = {name: extra_of(name) for name in ('sklearn', 'av', 'papermill', 'distributed', 'faiss', 'torch', 'nosuch')}
    assert found == dict(
        sklearn='viz', av='data', papermill='notebooks', distributed='cluster', faiss='search', torch='', nosuch=''
    )


def test_others_can_add_commands(store):
    @data.command()
    def hello():
        print('hello')

    try:
        assert run('data', 'hello').stdout == 'hello\n' and run('data', 'check', store).exit_code == 0
    finally:
        data.registered_commands.pop()


def test_make_then_check_with_a_sheet(tmp_path):
    asked = '--rig stage --subjects S7,S8 --unlabelled 1 --instants 24 --side 32'
    words = ['data', 'make', '--out', tmp_path / 'stage', *asked.split()]
    made = run(*words)
    assert (
        made.exit_code == 0
        and row(made.stdout, 'Walking', 8, 8, 8, 24)
        and 'labelled: 16 of 24 instants (66.7%)' in made.stdout
    )
    result = run('data', 'check', tmp_path / 'stage', '--sheet', tmp_path / 'sheet.png')
    assert result.exit_code == 0 and (tmp_path / 'sheet.png').read_bytes()[:4] == b'\x89PNG'
    again = run(*words)
    assert again.exit_code == 0, 'a finished store is opened, not refused'
    bad = run('data', 'check', tmp_path / 'stage', '--sheet', tmp_path / 'nowhere' / 'sheet.png')
    assert bad.exit_code == 1 and '--sheet' in bad.stderr and not (tmp_path / 'nowhere').exists()


@pytest.mark.parametrize(
    'words, message',
    [
        (('--rig', 'garden'), "rig must be one of studio, stage, got 'garden'"),
        (('--side', 31), 'side must lie in [32, 1024] px, got 31'),
        (('--instants', 3), 'instants must be at least 8'),
        (('--labels', 'some'), "labels must be 'named' or 'all', got 'some'"),
    ],
)
def test_make_refuses_in_one_line(tmp_path, words, message):
    result = run('data', 'make', '--out', tmp_path / 'x', *words)
    assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# ---- train and embed -------------------------------------------------------------------------------------------------

FAST = (
    '--steps',
    4,
    '--width',
    8,
    '--pairs',
    2,
    '--labelled-images',
    4,
    '--validation',
    'S5',
    '--test',
    'S9',
    '--set',
    'precision=fp32',
    '--set',
    'log_every=2',
    '--set',
    'validate_every=2',
)


@pytest.fixture(scope='module')
def studio(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'studio'
    make_dataset(path, subjects=('S1', 'S5', 'S9'), instants=48, side=32, progress=False)
    return path


@pytest.fixture(scope='module')
def trained(studio, tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'joint'
    result = run('train', '--data', studio, '--run', folder, *FAST)
    assert result.exit_code == 0, result.output
    assert (
        '4 steps in' in result.stdout
        and 'held-out S5' in result.stdout
        and 'PA-MPJPE' in result.stdout
        and f'made: {folder}' in result.stdout
    )
    return folder


def test_a_run_holds_what_it_is_known_by(trained):
    assert {
        'config.json',
        'provenance.json',
        'metrics.jsonl',
        'metrics.json',
        'weights.safetensors',
        'checkpoint.pt',
    } <= {path.name for path in trained.iterdir()}
    config = json.loads((trained / 'config.json').read_text())
    assert (config['width'], config['n_labelled'], config['test'], config['precision']) == (8, 4, ['S9'], 'fp32')


def test_a_finished_run_is_told_not_repeated(studio, trained):
    before = (trained / 'weights.safetensors').read_bytes()
    again = run('train', '--data', studio, '--run', trained, *FAST)
    assert (
        again.exit_code == 1
        and 'is a finished run: resume it (--resume' in again.stderr
        and again.stderr.count('\n') == 1
    )
    resumed = run('train', '--data', studio, '--run', trained, *FAST, '--resume')
    assert resumed.exit_code == 0 and (trained / 'weights.safetensors').read_bytes() == before
    other = run('train', '--data', studio, '--run', trained, *FAST, '--margin', 0.7, '--resume')
    assert other.exit_code == 1 and 'margin was 0.6 and is 0.7' in other.stderr


SCRIPT = Path(sys.executable).with_name('mvssl')


def signalled(number, when, *words):
    "Starts the installed script, waits until `when()`, sends the signal; exit status, stdout, stderr."
    running = subprocess.Popen([SCRIPT, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    while not when():
        assert running.poll() is None and time.monotonic() < began + 120, running.communicate()
        time.sleep(0.05)
    running.send_signal(number)
    told = running.communicate(timeout=60)
    return running.returncode, *told


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_says_how_to_go_on(studio, tmp_path, number):
    folder = tmp_path / 'run'
    words = ('train', '--data', studio, '--run', folder, *FAST, '--steps', 100_000, '--set', 'validate_every=100000')
    status, out, err = signalled(number, (folder / 'metrics.jsonl').exists, *words)
    assert (status, out) == (130, '') and re.fullmatch(
        rf'stopped: {folder} keeps step \d+ of 100000; go on with --resume\n', err
    )
    assert {path.name for path in folder.iterdir()} == {
        '.lock',
        'config.json',
        'provenance.json',
        'metrics.jsonl',
        'checkpoint.pt',
    }, 'nothing half-written'
    assert (
        run(*words)
        .stderr.strip()
        .endswith('is a run that was begun: resume it (--resume, or resume=True), name another, or delete it')
    )


def test_a_store_that_is_stopped_says_what_is_kept(tmp_path):
    out = tmp_path / 'studio'
    status, _, err = signalled(
        signal.SIGINT, Path(f'{out}.partial').exists, 'data', 'make', '--out', out, '--instants', 6000, '--side', 32
    )
    assert (status, err) == (
        130,
        f'stopped: what is finished of {out} is kept, the same command goes on\n',
    ) and not out.exists()


def test_a_job_that_leaves_nothing_says_so_when_it_is_stopped(studio, trained, tmp_path, monkeypatch):
    monkeypatch.setattr('mvssl.training.embed', lambda *args, **more: (_ for _ in ()).throw(KeyboardInterrupt))
    stopped = run('embed', '--run', trained, '--data', studio, '--out', tmp_path / 'z.npz')
    assert (stopped.exit_code, stopped.stderr) == (
        130,
        'stopped: nothing was written, run the same command again\n',
    ) and not list(tmp_path.iterdir())


def test_a_log_gets_lines(studio, tmp_path, monkeypatch):
    "Every half minute; of a job so short only where no second is to pass before the first one."
    assert max(progress._InFile.first_s, progress._InFile.every_s) <= 60
    for name in ('first_s', 'every_s'):
        monkeypatch.setattr(progress._InFile, name, 0)
    result = run('train', '--data', studio, '--run', tmp_path / 'run', *FAST)
    lines = [line for line in result.stdout.splitlines() if line.startswith('joint run: ')]
    assert (
        result.exit_code == 0
        and len(lines) >= 2
        and re.match(r'joint run: \d of 4 steps, \d+ \w+ left', lines[0])
        and max(map(len, lines)) <= 80
    )
    assert any('images/s' in line and 'val' in line for line in lines)


@pytest.mark.parametrize(
    'words, message',
    [
        (('--arm', 'semi'), 'arm must be one of supervised'),
        (('--test', 'S11'), 'test must name subjects of the store, which has S1, S5, S9'),
        (('--set', 'chunks=3'), 'with one of arm, seed'),
        (('--set', 'chunk=three'), "chunk must be int, got 'three'"),
        (('--set', 'compile=yes'), "compile must be bool, got 'yes'"),
        (('--start', 'imagnet'), "got 'imagnet'"),
        (('--pairs', 400), '--pairs must be at most'),
        (('--set', 'hue_deg=900'), 'hue_deg must lie in [0, 180]'),
        (('--start', 'synthetic2d'), 'pool must be a store of other people'),
    ],
)
def test_train_refuses_in_one_line(studio, tmp_path, words, message):
    result = run('train', '--data', studio, '--run', tmp_path / 'run', *FAST, *words)
    assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / 'run' / 'checkpoint.pt').exists()


def test_every_field_can_be_set():
    config = _config(
        dict(labelled='S1,S5', steps=7, unlabelled=None),
        ['unlabelled=S6', 'cached=8', 'grey=0', 'test=none', 'compile=true', 'alpha=.5'],
    )
    assert config == TrainConfig(
        labelled=('S1', 'S5'),
        steps=7,
        unlabelled=('S6',),
        cached=8,
        test=(),
        compile=True,
        alpha=0.5,
        augmentation=dict(vars(Augmentation()), grey=0.0),
    )


def test_help_of_train_tells_the_true_defaults():
    text, defaults = ' '.join(run('train', '--help').stdout.split()), TrainConfig()
    for option, name in {
        'arm': 'arm',
        'steps': 'steps',
        'seed': 'seed',
        'labelled': 'labelled',
        'fraction': 'label_fraction',
        'validation': 'validation',
        'test': 'test',
        'width': 'width',
        'pairs': 'n_pairs',
        'labelled-images': 'n_labelled',
        'margin': 'margin',
        'beta': 'beta',
        'alpha': 'alpha',
        'start': 'start',
    }.items():
        value = getattr(defaults, name)
        shown = (
            ','.join(value) if isinstance(value, tuple) else f'{value:g}' if isinstance(value, float) else str(value)
        )
        after = text[text.index(f'--{option} <') :]
        assert after[after.index('[default: ') :].startswith(f'[default: {shown}]'), option
    rates = re.search(r'--lr <float> .*?\[default: (.*?)\]', text)[1]
    assert {name: float(rate) for rate, name in re.findall(r'([\d.e-]+) for (\w+)', rates)} == OPTIMIZERS


def test_warnings_are_lines(studio, tmp_path, monkeypatch):
    monkeypatch.setattr('mvssl.training.alarms', lambda record, config: {'collapse': 'embeddings collapse'})
    result = run('train', '--data', studio, '--run', tmp_path / 'run', *FAST)
    assert (
        result.exit_code == 0
        and result.stderr == 'warning: step 2: embeddings collapse\n'
        and 'alarms: collapse from step 2' in result.stdout
    )


def test_embed_a_store(studio, trained, tmp_path):
    ds = MultiviewDataset.open(studio)
    for out in ('z.npz', 'z.safetensors'):
        assert run('embed', '--run', trained, '--data', studio, '--out', tmp_path / 'new' / out).exit_code == 0
    with np.load(tmp_path / 'new' / 'z.npz', allow_pickle=False) as found:
        arrays = {name: found[name] for name in found}
    assert (
        arrays['z'].shape == (48 * 4, 128)
        and arrays['pose'].shape == (48 * 4, 17, 3)
        and np.allclose(np.linalg.norm(arrays['z'], axis=1), 1, atol=1e-5)
    )
    assert (arrays['subject'] == ds.table['subject'].to_numpy()[arrays['instant']]).all() and list(
        arrays['view'][:4]
    ) == ds.views
    with safe_open(tmp_path / 'new' / 'z.safetensors', framework='np') as file:
        names = json.loads(file.metadata()['mvssl'])
        assert np.array_equal(file.get_tensor('z'), arrays['z']) and np.array_equal(
            np.array(names['view'])[file.get_tensor('view')], arrays['view']
        )


def test_embed_pictures_of_any_shape(trained, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos' / 'deep').mkdir(parents=True)
    for name, shape in {
        'b.PNG': (50, 30, 3),
        'deep/a.jpg': (20, 90, 3),
        'c.png': (32, 32, 4),
        'd.png': (40, 40),
    }.items():
        Image.fromarray(rng.integers(0, 256, shape, 'uint8')).save(tmp_path / 'photos' / name)
    assert (
        run(
            'embed',
            '--run',
            trained / 'weights.safetensors',
            '--data',
            tmp_path / 'photos',
            '--out',
            tmp_path / 'z.npz',
        ).exit_code
        == 0
    )
    with np.load(tmp_path / 'z.npz') as found:
        assert found['z'].shape == (4, 128) and list(found['picture']) == ['b.PNG', 'c.png', 'd.png', 'deep/a.jpg']
    (tmp_path / 'photos' / 'e.png').write_bytes(b'no picture')
    broken = run('embed', '--run', trained, '--data', tmp_path / 'photos', '--out', tmp_path / 'x.npz')
    assert (
        broken.exit_code == 1
        and 'e.png is no picture that can be read' in broken.stderr
        and not (tmp_path / 'x.npz').exists()
    )


def test_embed_refuses_in_one_line(studio, trained, tmp_path):
    (tmp_path / 'begun').mkdir()
    (tmp_path / 'begun' / 'config.json').write_text('{}')
    (tmp_path / 'bad.safetensors').write_bytes(b'x' * 100)
    for words, message in (
        (('--run', trained, '--data', studio, '--out', tmp_path / 'z.csv'), '--out must end in'),
        (('--run', tmp_path / 'begun', '--data', studio, '--out', tmp_path / 'z.npz'), 'it is not finished'),
        (('--run', tmp_path / 'none', '--data', studio, '--out', tmp_path / 'z.npz'), 'there is nothing at'),
        (('--run', trained, '--data', tmp_path, '--out', tmp_path / 'z.npz'), 'has neither dataset.json'),
        (
            ('--run', tmp_path / 'bad.safetensors', '--data', studio, '--out', tmp_path / 'z.npz'),
            'path must be a file that save_weights wrote',
        ),
    ):
        result = run('embed', *words)
        assert result.exit_code == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1, (
            result.output
        )
    assert not list(tmp_path.glob('z.*'))


@pytest.mark.parametrize('side', [16, 31, 1025])
@pytest.mark.parametrize(
    'words',
    [
        ('make',),
        ('mocap', 'nowhere'),
        ('human36m', 'nowhere'),
        ('mpi-inf-3dhp', 'nowhere'),
        ('mpi-inf-3dhp', 'nowhere', '--test-set'),
        ('videos', 'nowhere'),
    ],
    ids=' '.join,
)
def test_a_side_that_no_network_takes_is_refused_before_anything_is_looked_for(tmp_path, words, side):
    done = run('data', *words, '--out', tmp_path / 'store', '--side', side)
    assert (
        done.exit_code == 1
        and f'side must lie in [32, 1024] px, got {side}' in done.output
        and not list(tmp_path.iterdir())
    )
