"""Training survives kills bit for bit, is the same in one process, in several, in parts, and stops where it should."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from mvssl import training
from mvssl.dataset import SIDES_PX, DatasetWriter, MultiviewDataset
from mvssl.encoder import PoseEncoder, PoseNet, load_network, save_weights
from mvssl.refusal import Refusal
from mvssl.sources.synthetic import make_dataset
from mvssl.training import (
    ARMS,
    Batch,
    Diverged,
    TrainConfig,
    Trainer,
    TrainingWarning,
    batch_loss,
    joints_2d,
    rate,
    split,
    train,
    weight,
)

pytestmark = pytest.mark.filterwarnings(
    'ignore::mvssl.training.TrainingWarning'
)  # a few steps of a tiny network ring them

SUBJECTS = ('S1', 'S5', 'S6', 'S8', 'S9')
TINY = TrainConfig(
    steps=12,
    labelled=('S1',),
    test=('S9',),
    n_pairs=4,
    n_labelled=4,
    subjects_per_batch=2,
    width=8,
    dim=16,
    precision='fp32',
    memory_format='channels_last',
    log_every=2,
    validate_every=4,
    ema=0.9,
)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp('data') / 'studio', subjects=SUBJECTS, instants=120, side=32, progress=False
    )


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(folder):
    return load_file(folder / 'weights.safetensors')


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


# ---- who is trained on, and when -------------------------------------------------------------------------------------


def test_nobody_held_out_is_trained_on(store):
    subject = store.table['subject'].to_numpy()
    for arm in ARMS:
        parts = split(replace(TINY, arm=arm), store)
        assert set(subject[parts.labelled]) == (set() if arm == 'metric' else {'S1'})
        assert set(subject[parts.pairs]) == (set() if arm == 'supervised' else {'S1', 'S5', 'S6'})
        assert set(subject[parts.validation]) == {'S8'}
    assert set(subject[split(replace(TINY, unlabelled=('S5',)), store).pairs]) == {'S5'}
    half = split(replace(TINY, label_fraction=0.5), store).labelled
    assert half.sum() == split(TINY, store).labelled.sum() // 2
    trainer = Trainer(TINY, store)
    for _ in range(20):
        for name, batches in trainer.batches.items():
            assert {subject[row] for row in next(batches).instant} <= (
                {'S1'} if name == 'labelled' else {'S1', 'S5', 'S6'}
            )


def test_schedules_by_hand():
    assert [rate(step, 10, 0.2) for step in (0, 1, 2, 6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5])
    assert all(0 < rate(step, 7, warmup) <= 1 for warmup in (0, 0.5, 1) for step in range(7))
    assert [weight(5, replace(TINY, arm=arm)) for arm in ARMS] == [0, 0, 1, TINY.alpha]


# ---- the same numbers ------------------------------------------------------------------------------------------------


def test_control_equals_supervised_without_batch_statistics(store, tmp_path):
    for arm in ('supervised', 'control', 'joint'):
        train(replace(TINY, arm=arm), store, tmp_path / arm, progress=False)
    supervised, control, joint = (weights(tmp_path / arm) for arm in ('supervised', 'control', 'joint'))
    for name in supervised:
        if name.startswith('head'):
            assert_close(control[name], supervised[name], rtol=1e-3, atol=1e-4)
    assert (joint['head.leave.weight'] - supervised['head.leave.weight']).abs().max() > 10 * (
        control['head.leave.weight'] - supervised['head.leave.weight']
    ).abs().max()


def test_a_store_that_no_network_takes_is_refused_before_the_run_is_begun(tmp_path):
    "The side that makers of stores ask for is the least one that the encoder takes."
    settings = dict(name='small', source='made', licence='free', hz=10, stride=1, views=['a', 'b'])
    for side in (SIDES_PX[0] - 1, SIDES_PX[0]):
        images = torch.zeros(2, 3, side, side)
        if side == SIDES_PX[0]:
            assert PoseEncoder(8)(images).shape == (2, 128)
        else:
            with pytest.raises(ValueError, match='S >= 32'):
                PoseEncoder(8)(images)
    with DatasetWriter(tmp_path / 'small', **settings, side=SIDES_PX[0] - 1) as writer:
        writer.add('S1', 'walk', 'walk', np.full((3, 2, SIDES_PX[0] - 1, SIDES_PX[0] - 1, 3), 9, 'uint8'))
    config = TrainConfig(arm='metric', validation=(), test=())
    with pytest.raises(Refusal, match=r'the side of dataset must lie in \[32, 1024\] px, got 31'):
        train(config, MultiviewDataset.open(tmp_path / 'small'), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_same_seed_same_result(store, tmp_path):
    for name, seed in dict(a=0, b=0, c=1).items():
        train(replace(TINY, seed=seed), store, tmp_path / name, progress=False)
    assert_same(weights(tmp_path / 'a'), weights(tmp_path / 'b'))
    assert not torch.equal(
        weights(tmp_path / 'a')['encoder.conv1.weight'], weights(tmp_path / 'c')['encoder.conv1.weight']
    )
    assert numbers(tmp_path / 'a') == numbers(tmp_path / 'b')


def test_training_leaves_global_randomness_alone(store, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(TINY, store, tmp_path / 'run', progress=False)
    assert torch.equal(torch.rand(3), expected)


TRAIN = """
import os, signal, sys, torch
from mvssl import training
from mvssl.dataset import MultiviewDataset
torch.set_num_threads(1)
path, folder, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = training.TrainConfig(**eval(sys.argv[4]))
step = training.Trainer.step
def counted(self):
    if self.done == kill_at: os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
training.Trainer.step = counted
training.train(config, MultiviewDataset.open(path), folder, resume=True, progress=False)
"""


def in_process(store, folder, kill_at, config, *launcher):
    command = [
        *(launcher or (sys.executable,)),
        *(() if launcher else ('-c', TRAIN)),
        store.path,
        folder,
        str(kill_at),
        repr(asdict(config)),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))


def test_killed_and_resumed_gives_the_same_bits(store, tmp_path):
    config = replace(TINY, steps=10)
    for kill_at in (3, 9):
        assert (
            in_process(store, tmp_path / 'killed', kill_at, config).returncode == -signal.SIGKILL
        )  # before the first checkpoint, after the second
    train(config, store, tmp_path / 'killed', resume=True, progress=False)  # in a third process, this one
    train(config, store, tmp_path / 'whole', progress=False)
    assert_same(weights(tmp_path / 'killed'), weights(tmp_path / 'whole'))
    assert [json.loads(line)['step'] for line in (tmp_path / 'killed' / 'metrics.jsonl').open()] == [0, 2, 4, 6, 8, 10]
    assert len(json.loads((tmp_path / 'killed' / 'provenance.json').read_text())) == 3


@pytest.mark.parametrize(
    'change',
    [
        dict(precision='bf16'),
        dict(optimizer='adamw'),
        dict(grid=2),
        dict(norm='batch', head_reads='embedding'),
        dict(arm='metric', loss='info_nce'),
        dict(ema=0.0, cached=5),
    ],
)
def test_stopped_and_resumed_gives_the_same_bits(store, tmp_path, monkeypatch, change):
    config, plain = replace(TINY, **change), Trainer.step
    train(config, store, tmp_path / 'whole', progress=False)

    def stopped(self):
        if self.done == 7:
            raise KeyboardInterrupt
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, 'step', stopped)
        with pytest.raises(KeyboardInterrupt):
            train(config, store, tmp_path / 'stopped', progress=False)
    train(config, store, tmp_path / 'stopped', resume=True, progress=False)
    assert_same(weights(tmp_path / 'stopped'), weights(tmp_path / 'whole'))


@pytest.fixture(scope='module')
def stage(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp('data') / 'stage', 'stage', ('S1', 'S2', 'S7'), instants=120, side=32, progress=False
    )


WITH_SECOND = replace(TINY, second_pairs=2, second_held_out=('S7',))


def test_pairs_of_a_second_store_stop_and_go_on_to_the_same_bits(store, stage, tmp_path, monkeypatch):
    plain = Trainer.step
    found = train(WITH_SECOND, store, tmp_path / 'whole', second=stage, progress=False)
    assert found['second'] == ['S1', 'S2']

    def stopped(self):
        if self.done == 7:
            raise KeyboardInterrupt
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, 'step', stopped)
        with pytest.raises(KeyboardInterrupt):
            train(WITH_SECOND, store, tmp_path / 'stopped', second=stage, progress=False)
    train(WITH_SECOND, store, tmp_path / 'stopped', second=stage, resume=True, progress=False)
    assert_same(weights(tmp_path / 'stopped'), weights(tmp_path / 'whole'))
    train(TINY, store, tmp_path / 'alone', progress=False)
    assert weights(tmp_path / 'alone').keys() == weights(tmp_path / 'whole').keys()
    with pytest.raises(AssertionError):
        assert_same(weights(tmp_path / 'alone'), weights(tmp_path / 'whole'))


def test_nobody_of_a_second_store_is_mistaken_for_somebody_of_the_first(store, stage):
    config = replace(WITH_SECOND, augmentation=None)
    trainer, n, m = Trainer(config, store, second=stage), config.n_pairs, config.second_pairs
    first, second = (of.table['subject'].unique() for of in (store, stage))
    for _ in range(20):
        pairs, _ = trainer.next_batches()
        assert len(pairs.images) == 2 * (n + m)
        assert torch.equal(pairs.subject[: n + m], pairs.subject[n + m :])
        assert torch.equal(pairs.instant[: n + m], pairs.instant[n + m :])
        assert (pairs.view[: n + m] != pairs.view[n + m :]).all()
        for at, subject, instant in zip(range(n + m), pairs.subject.tolist(), pairs.instant.tolist()):
            name, of = (first[subject], store) if at < n else (second[subject - len(first)], stage)
            assert of.table['subject'][instant] == name != 'S7'
            assert at >= n or name in ('S1', 'S5', 'S6')
        for at, instant, view in zip(itertools.count(), pairs.instant.tolist(), pairs.view.tolist()):
            of = store if at % (n + m) < n else stage
            assert np.array_equal(pairs.images[at].permute(1, 2, 0), of.frames[instant, view]), 'a picture of its store'


@pytest.mark.parametrize(
    ('changes', 'is_given', 'says'),
    [
        (dict(second_pairs=0), True, 'second_pairs must be positive, in an arm with pairs, with a second store'),
        (dict(arm='supervised'), True, 'second_pairs must be positive, in an arm with pairs'),
        (dict(), False, 'second must be a store with second_pairs = 2'),
        (dict(second_held_out=('S1', 'S2', 'S7')), True, 'second_held_out must leave somebody'),
        (dict(second_held_out=('S9',)), True, 'second_held_out must name subjects of the store, which has S1, S2, S7'),
        (dict(second_pairs=500), True, 'second_pairs does not suit stage (synthetic): n_pairs must be at most'),
    ],
)
def test_a_second_store_that_cannot_give_pairs_is_refused_before_anything_is_made(
    store, stage, tmp_path, changes, is_given, says
):
    with pytest.raises(Refusal) as error:
        train(replace(WITH_SECOND, **changes), store, tmp_path / 'run', second=stage if is_given else None)
    assert says in str(error.value)
    assert not (tmp_path / 'run').exists()


def numbers(folder):
    "The log without its times."
    return [
        {name: value for name, value in json.loads(line).items() if name not in ('seconds', 'images_per_s')}
        for line in (folder / 'metrics.jsonl').open()
    ]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_validation_costs_nothing(store, tmp_path, monkeypatch, number):
    "It comes within step 2; two steps later it would find another line logged, and four later a validation."
    config, plain = replace(TINY, steps=10, log_every=2, validate_every=8), Trainer.step

    def signalled(self):
        if self.done == 2:
            os.kill(os.getpid(), number)
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, 'step', signalled)
        with pytest.raises(KeyboardInterrupt, match='stopped keeps step 3 of 10'):
            train(config, store, tmp_path / 'stopped', progress=False)
    assert torch.load(tmp_path / 'stopped' / 'checkpoint.pt', weights_only=True)['window']['n'] == 1
    train(config, store, tmp_path / 'stopped', resume=True, progress=False)
    train(config, store, tmp_path / 'whole', progress=False)
    assert_same(weights(tmp_path / 'stopped'), weights(tmp_path / 'whole'))
    assert numbers(tmp_path / 'stopped') == numbers(tmp_path / 'whole')


def test_a_signal_in_the_last_step_is_not_forgotten(store, tmp_path, monkeypatch):
    plain = Trainer.step

    def signalled(self):
        if self.done == TINY.steps - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Trainer, 'step', signalled)
    with pytest.raises(KeyboardInterrupt, match='is finished'):
        train(TINY, store, tmp_path / 'run', progress=False)
    assert (tmp_path / 'run' / 'metrics.json').exists()


def test_long_before_a_validation_there_is_a_checkpoint(store, tmp_path, monkeypatch):
    "Ended without warning before the first validation, with a minute that is over at once."
    monkeypatch.setattr(training, 'KEEP_EVERY_S', 0)
    plain = Trainer.step

    def killed(self):
        if self.done == 5:
            raise MemoryError
        return plain(self)

    monkeypatch.setattr(Trainer, 'step', killed)
    with pytest.raises(MemoryError):
        train(replace(TINY, validate_every=12), store, tmp_path / 'run', progress=False)
    assert torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)['done'] == 4


def test_a_kill_between_last_checkpoint_and_end(store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, '_finish', lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(TINY, store, tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run' / 'metrics.json').exists()
    metrics = train(TINY, store, tmp_path / 'run', resume=True, progress=False)
    assert metrics['validation']['mpjpe_mm'] > 0 and metrics == train(
        TINY, store, tmp_path / 'run', resume=True, progress=False
    )


def test_a_checkpoint_of_another_configuration_is_refused(store, tmp_path):
    state = Trainer(TINY, store).state_dict()
    with pytest.raises(ValueError, match='same configuration'):
        Trainer(replace(TINY, margin=0.7), store).load_state_dict(state)


@pytest.mark.parametrize('head_reads', ['features', 'embedding'])
def test_cached_gradients_are_those_of_the_whole_batch(store, head_reads):
    gradients = []
    for cached in (None, 3, 5):
        config = replace(TINY, cached=cached, head_reads=head_reads)
        trainer = Trainer(config, store)
        loss, stats = batch_loss(
            trainer.network, next(trainer.batches['pairs']), next(trainer.batches['labelled']), config, weight=0.2
        )
        loss.backward()
        gradients.append((loss.detach(), {name: p.grad for name, p in trainer.network.named_parameters()}))
    for loss, gradient in gradients[1:]:
        assert_close(loss, gradients[0][0], rtol=1e-5, atol=1e-6)
        for name, value in gradient.items():
            assert_close(value, gradients[0][1][name], rtol=1e-4, atol=1e-5)


def test_cached_computes_every_part_again(store, monkeypatch):
    sizes, plain = [], training.PoseEncoder.features
    monkeypatch.setattr(
        training.PoseEncoder,
        'features',
        lambda self, images: sizes.append((len(images), torch.is_grad_enabled())) or plain(self, images),
    )
    Trainer(replace(TINY, cached=5), store).step()
    assert [size for size, _ in sizes[:3]] == [5, 5, 2] and sorted(size for size, _ in sizes[3:]) == [2, 5, 5]


SHARED = """
import sys, torch
from mvssl import training
from mvssl.dataset import MultiviewDataset
from safetensors.torch import save_file
torch.set_num_threads(1)
with training.processes('cpu') as device:
    assert training._is_shared() == (sys.argv[4] == '2'), 'processes did not meet'
    found = {}
    for n, config in enumerate(eval(sys.argv[3])):
        trainer = training.Trainer(training.TrainConfig(**config), MultiviewDataset.open(sys.argv[1]), device)
        # Adam and Muon would blow up rounding where a gradient is nearly 0
        trainer.optimizers = [torch.optim.SGD([dict(params=list(trainer.network.parameters()), highest_lr=.03)])]
        for step in range(4): stats = trainer.step()
        values = trainer.network.state_dict() | stats
        found |= {f'{n}.{name}': value.contiguous() for name, value in values.items() if name != 'pose_loss'}
    if not training._is_shared() or training.dist.get_rank() == 0: save_file(found, sys.argv[2])
"""


def test_two_processes_equal_one_with_the_same_batch(store, tmp_path, monkeypatch):
    (tmp_path / 'shared.py').write_text(SHARED)
    base = replace(TINY, lr=0.03, n_labelled=8, ramp=0)
    configs = repr(
        [
            asdict(replace(base, negatives='any', head_reads='features')),
            asdict(replace(base, negatives='same subject', head_reads='embedding', cached=5)),
        ]
    )
    words = [
        [str(tmp_path / 'shared.py'), str(store.path), str(tmp_path / f'{n}.safetensors'), configs, str(n)]
        for n in (1, 2)
    ]
    monkeypatch.setattr(sys, 'argv', words[0])
    exec(SHARED, {})  # one process: this one
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    done = subprocess.run(
        [*launcher, *words[1]], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1')
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / f'{n}.safetensors') for n in (1, 2))
    assert one.keys() == two.keys() and '1.pairs_loss' in one and '0.encoder.conv1.weight' in one
    for name in one:
        assert_close(two[name], one[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')


def test_train_in_two_processes(store, tmp_path):
    (tmp_path / 'train.py').write_text(TRAIN)
    launcher = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node=2',
        tmp_path / 'train.py',
    ]
    done = in_process(store, tmp_path / 'two', -1, TINY, *launcher)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / 'two' / 'metrics.json').read_text())
    assert metrics['validation']['mpjpe_mm'] > 0 and load_network(tmp_path / 'two' / 'weights.safetensors')
    refused = in_process(store, tmp_path / 'two', -1, replace(TINY, margin=0.7), *launcher)
    assert refused.returncode == 1 and refused.stderr.count('margin was 0.6 and is 0.7') >= 2, (
        'every process tells why it ends'
    )


# ---- starts ----------------------------------------------------------------------------------------------------------


def test_all_arms_start_alike(store):
    first = [Trainer(replace(TINY, arm=arm), store).network.state_dict() for arm in ARMS]
    for other in first[1:]:
        assert_same(other, first[0])


def test_start_from_a_file(store, tmp_path):
    source = PoseNet(8, 16, 'group', head_reads='features')
    save_weights(tmp_path / 'net.safetensors', source)
    save_weights(tmp_path / 'encoder.safetensors', source.encoder)
    assert_same(
        Trainer(replace(TINY, start=str(tmp_path / 'net.safetensors')), store).network.state_dict(), source.state_dict()
    )
    assert_same(
        Trainer(replace(TINY, start=str(tmp_path / 'encoder.safetensors')), store).network.encoder.state_dict(),
        source.encoder.state_dict(),
    )
    with pytest.raises(ValueError, match='start must be weights of a network like the one asked for'):
        Trainer(replace(TINY, width=16, start=str(tmp_path / 'net.safetensors')), store)
    config = replace(TINY, start=str(tmp_path / 'net.safetensors'), steps=2)
    train(config, store, tmp_path / 'run', progress=False)
    save_weights(tmp_path / 'net.safetensors', PoseNet(8, 16, 'group', head_reads='features'))
    with pytest.raises(ValueError, match='inputs differ'):
        train(config, store, tmp_path / 'run', resume=True, progress=False)
    with pytest.raises(ValueError, match='start must be random, synthetic2d, imagenet or a file'):
        train(replace(TINY, start='imagnet'), store, tmp_path / 'typo', progress=False)
    assert not (tmp_path / 'typo').exists()


def test_start_from_2d_joints_of_other_people(store, tmp_path):
    config = replace(TINY, start='synthetic2d', start_steps=5, steps=4)
    with pytest.raises(ValueError, match='pool must be a store of other people'):
        train(config, store, tmp_path / 'none', progress=False)
    pool = make_dataset(tmp_path / 'pool', subjects=('S1', 'S5'), instants=32, side=32, seed=9, progress=False)
    metrics = train(config, store, tmp_path / 'run', pool=pool, progress=False)
    again = train(
        replace(config, arm='supervised', start=str(tmp_path / 'run' / 'start.safetensors')),
        store,
        tmp_path / 'other',
        progress=False,
    )
    assert metrics['validation']['mpjpe_mm'] > 0 and again['validation']['mpjpe_mm'] > 0
    started = Trainer(
        replace(config, start=str(tmp_path / 'run' / 'start.safetensors')), store
    ).network.encoder.conv1.weight
    assert not torch.equal(started, Trainer(TINY, store).network.encoder.conv1.weight)


def test_2d_joints_are_where_the_person_is(store):
    joints, frames = joints_2d(store), np.asarray(store.frames[:40]).astype(float)
    assert joints.shape == (120, 4, 17, 2) and joints.abs().max() < 0.5
    background = np.median(frames, axis=0)
    at = ((joints[:40, :, 0] + 0.5) * 32).long().clamp(0, 31).numpy()  # the hip
    n, v = np.indices(at.shape[:2])
    differs = np.abs(frames - background).max(-1) > 20
    assert differs[n, v, at[..., 1], at[..., 0]].mean() > 2 * differs.mean()


# ---- what is measured, and what stops --------------------------------------------------------------------------------


def test_a_number_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(store, tmp_path, monkeypatch):
    plain = Trainer.step

    def poisoned(self):
        if self.done == 9:
            self.network.encoder.conv1.weight.data[0] = math.nan
        return plain(self)

    monkeypatch.setattr(Trainer, 'step', poisoned)
    with pytest.raises(
        Diverged, match=r'pose_loss and pairs_loss and grad_norm not finite at step 10.*Likely cause.*Try'
    ):
        train(TINY, store, tmp_path / 'run', progress=False)
    state = torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)
    assert state['done'] == 8 and all(value.isfinite().all() for value in state['network'].values())
    assert not (tmp_path / 'run' / 'metrics.json').exists() and not (tmp_path / 'run' / 'weights.safetensors').exists()
    assert [json.loads(line)['step'] for line in (tmp_path / 'run' / 'metrics.jsonl').open()] == [0, 2, 4, 6, 8]
    monkeypatch.setattr(Trainer, 'step', plain)
    assert train(TINY, store, tmp_path / 'run', resume=True, progress=False)['steps'] == 12


def test_alarms_ring_once_and_are_kept(store, tmp_path, monkeypatch):
    monkeypatch.setattr(
        training, 'alarms', lambda record, config: {'collapse': 'embeddings collapse'} if record['step'] >= 4 else {}
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        metrics = train(TINY, store, tmp_path / 'run', progress=False)
    assert [str(w.message) for w in seen if w.category is TrainingWarning] == [
        'step 4: embeddings collapse'
    ] and metrics['alarms'] == {'collapse': 4}


def test_a_collapsed_network_is_noticed(store, tmp_path):
    "Without standardisation, with beta above every distance, nothing is pushed apart."
    config = replace(TINY, arm='metric', standardise=False, beta=1.9, steps=40, warmup=0, lr=1e-2)
    with pytest.warns(TrainingWarning, match='collapse'):
        metrics = train(config, store, tmp_path / 'run', progress=False)
    assert 'collapse' in metrics['alarms']


def test_clothes_are_noticed(store):
    "An embedding that knows nothing but the subject, and one that knows nothing at all."
    subject, sequence = (torch.arange(200) % 5), torch.arange(200) // 5 % 8 + 8 * (torch.arange(200) % 5)
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    for z, rings in ((noise, False), (noise + 20 * torch.eye(16)[subject], True)):
        probe, chance = training.subject_probe(z, subject, sequence)
        assert chance == pytest.approx(35 / 195) and (probe == 1 if rings else probe < 0.4)
        assert (
            'identities'
            in training.alarms(dict(step=9, subject_probe=probe, subject_chance=chance), replace(TINY, arm='metric'))
        ) == rings


@pytest.mark.parametrize('arm', ['supervised', 'control'])
def test_no_alarm_about_pairs_where_they_are_not_trained(arm):
    assert (
        training.alarms(
            dict(
                step=9,
                spread=0.01,
                share_under_beta=1.0,
                share_active=1.0,
                share_with_negative=0.0,
                pairs_loss=0.6,
                d_positive=0.0,
                d_negative=0.0,
                subject_probe=1.0,
                subject_chance=0.2,
            ),
            replace(TINY, arm=arm),
        )
        == {}
    )


def test_eight_images_are_learned_by_heart(store):
    config = replace(TINY, arm='supervised', n_labelled=8, steps=150, augmentation=None, warmup=0.1)
    trainer = Trainer(config, store)
    trainer.batches = dict(labelled=itertools.repeat(next(trainer.batches['labelled'])))
    losses = [trainer.step()['pose_loss'].item() for _ in range(150)]
    assert losses[-1] < 0.15 * losses[0]


def test_metric_arm_needs_no_label(tmp_path):
    store = make_dataset(tmp_path / 'rig', subjects=('S1', 'U01', 'U02'), instants=72, side=32, progress=False)
    config = replace(TINY, arm='metric', validation=('U02',), test=('S1',))
    metrics = train(config, store, tmp_path / 'run', progress=False)
    assert set(metrics['validation']) == {'recall', 'nearest_mm', 'chance_mm', 'best_mm'}, (
        'no labels, no error; one subject, no probe'
    )
    assert metrics['validation']['nearest_mm'] is None and 0 <= metrics['validation']['recall'] <= 1
    assert metrics['subjects'] == dict(labelled=[], pairs=['U01'], validation=['U02'], new_takes=[])


def test_a_pair_batch_may_hold_labelled_images_without_a_pose():
    network = PoseNet(8, 16, 'group', head_reads='features').train()
    poses = torch.full((3, 17, 3), math.nan)
    loss, stats = batch_loss(
        network,
        Batch(torch.rand(4, 3, 32, 32), None, torch.zeros(4, dtype=torch.long), None, None),
        Batch(torch.rand(3, 3, 32, 32), poses, None, None, None),
        TINY,
        0.2,
    )
    assert loss.isfinite() and stats['pose_loss'] == 0
