"""Batches from end to end: what they leave, what they do not make twice, kills, clusters, failures.

Stores and trainings are those of the smoke profile.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from experiments_fixture import EXPERIMENTS, MVSSL, analysis, command, edited

from mvssl.study import reproduce as module
from mvssl.dataset import MultiviewDataset
from mvssl.encoder import load_network
from mvssl.ground.device import cores
from mvssl.study.report import took_of
from mvssl.study.reproduce import (
    GROUPS,
    NEEDS,
    PROFILES,
    Workers,
    Study,
    jobs_of,
    reproduce,
    status,
)
from mvssl.runs import hold, is_held
from mvssl.study.estimate import NotMeasured, Speed
from mvssl.study.jobs import workers

N = sum(PROFILES['smoke'].seeds.values())  # trainings
ARTEFACTS = {  # notebook -> what it must leave
    'semi_supervision': (
        'semi_supervision.png',
        'semi_supervision.pdf',
        'semi_supervision.csv',
        'semi_supervision.md',
        'semi_supervision.json',
    ),
    '1_selection_of_negatives': ('sec1_negatives.png', 'sec1_negatives.pdf', 'sec1_negatives.json'),
    '2_margin_ablation': (
        'table1_margin_ablation.csv',
        'table1_margin_ablation.md',
        'table1_margin_ablation.json',
        'margin_stability.png',
        'margin_stability.pdf',
    ),
    'paper_way': (
        'paper_way.png',
        'paper_way.pdf',
        'paper_way.csv',
        'paper_way.md',
        'paper_way.json',
        'large_margins.png',
        'large_margins.csv',
    ),
    '3_pose_retrieval': ('fig1_pose_retrieval.png', 'fig1_pose_retrieval.pdf', 'fig1_scores.csv', 'fig1_scores.md'),
    '4_embedding_space': ('fig2_embedding_space.png', 'fig2_embedding_space.pdf'),
}


def processor_seconds():
    "Of all processes that were begun here and have ended: what others do on this machine is not in it."
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def quick(n, threads, kinds, film='', **how):
    "As `measure_apart`, without measuring: ten milliseconds a step, one an image, a second to start."
    return [
        Speed(
            dict.fromkeys(kinds, 0.01),
            dict.fromkeys(kinds, 0.001),
            1.0,
            dict(room=1.0, person=0.1, image=0.001) if film else {},
            'fp32, AVX2',
            'A processor',
        )
    ] * n


@pytest.fixture(autouse=True)
def not_timed(monkeypatch):
    "How fast this machine is changes nothing that is tested here."
    monkeypatch.setattr(module, 'measure_apart', quick)


# ---- what is asked ---------------------------------------------------------------------------------------------------


# ---- keys ------------------------------------------------------------------------------------------------------------


# ---- the whole of it -------------------------------------------------------------------------------------------------


def test_smoke_from_end_to_end(smoke_study, tmp_path):
    "The command a user types; then again, when there is nothing left to do."
    out = shutil.copytree(smoke_study, tmp_path / 'out')
    log = (out / 'runs/smoke-synthetic/log.txt').read_text(encoding='utf-8')
    lines = [line[len('2026-01-31 12:00:00 ') :] for line in log.splitlines()]
    assert lines[0] == f'batch smoke-synthetic: 3 stores, {N} of {N} trainings, 6 of 6 analyses to make'
    assert (
        re.fullmatch(rf'{N} trainings and 6 analyses: about \d+ \w+ on \d+ workers?, (bf16|fp32), \w+', lines[1])
        and 'images/s each' in lines[2]
    )
    assert [line for line in lines if len(line) > 80 and not re.search(r'\S{60}', line)] == [], (
        'only a path may be longer than a line'
    )
    figures = out / 'figures' / 'smoke-synthetic'
    wanted = [file for notebook, files in ARTEFACTS.items() for file in files]
    assert sorted(file for file in wanted if not (figures / file).exists()) == []
    named = {}
    for path in figures.glob('*.json'):
        sidecar = json.loads(path.read_text(encoding='utf-8'))
        if 'artefacts' not in sidecar:
            continue
        named |= sidecar['artefacts']
        if path.name == 'report.json':
            continue  # made of all the others
        assert {'commit', 'clean', 'config', 'inputs', 'versions', 'device', 'seconds', 'run', 'source'} <= set(
            sidecar
        ), path.name
        assert sidecar['inputs']['dataset'] == MultiviewDataset.open(out / 'data/smoke/studio').checksum
        assert str(smoke_study) not in path.read_text(encoding='utf-8'), 'a path of this machine'
    for path in figures.iterdir():
        assert path.stat().st_size < 1e6, path.name
        if path.suffix != '.json' and path.name != 'report.html':
            assert named[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert 'smoke' in (figures / 'report.html').read_text(encoding='utf-8')
    took = took_of(figures)
    assert took['trainings'] == sum(PROFILES['smoke'].seeds.values()) and list(took['seconds']) == [
        'stores',
        'trainings',
        'analyses',
    ]
    executed = list((out / 'runs').rglob('executed.ipynb'))
    assert len(executed) == sum(PROFILES['smoke'].seeds.values()) + len(NEEDS)

    before = processor_seconds()
    again = command('reproduce', '--profile', 'smoke', '--out', out)
    assert again.returncode == 0 and f': 0 run, {len(executed)} reused, 0 failed' in again.stdout, (
        again.stdout + again.stderr
    )
    assert processor_seconds() - before < 60
    assert took_of(figures) == took, 'what a batch took is what it took when all of it was made'
    told = command('status', '--profile', 'smoke', '--out', out)
    assert told.returncode == 0 and f'{len(NEEDS)} of {len(NEEDS)} analyses done; not running' in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80


def test_a_parameter_that_is_misspelt_is_refused_before_anything_runs(made_up, tmp_path, monkeypatch):
    analysis(made_up, '2_margin_ablation')
    monkeypatch.setitem(PROFILES, 'smoke', replace(PROFILES['smoke'], analyses={'2_margin_ablation': dict(sede=1)}))
    with pytest.raises(ValueError, match="2_margin_ablation.ipynb has no parameter 'sede', did you mean 'seed'?"):
        reproduce('smoke', out=tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


SLOW = """
import os, time
quick = training.validate
def slowly(*args, **more):
    time.sleep(float(os.environ.get('SLOW_S', 0)))
    return quick(*args, **more)
training.validate = slowly
"""


def wait_for(what, seconds=120):
    began = time.perf_counter()
    while not what():
        assert time.perf_counter() < began + seconds, 'waited in vain'
        time.sleep(0.1)


def test_a_killed_batch_goes_on_where_it_was(root, smoke_study, tmp_path, monkeypatch):
    "Killed while two trainings have their checkpoints behind them and wait in their second look at people."
    once = Study('smoke', out=smoke_study).planned('supervised-100')[0]
    edited(
        EXPERIMENTS / 'train.ipynb', tmp_path / 'experiments' / 'train.ipynb', SLOW, after='from mvssl import training'
    )
    monkeypatch.setenv('MVSSL_NOTEBOOKS', str(tmp_path / 'experiments'))
    jobs = max(2, cores())  # a thread each, as in the study that they are compared with: sums depend on it
    words = f'reproduce --profile smoke --only supervised-100 --jobs {jobs} --no-estimate --out'.split() + [str(root)]
    killed = subprocess.Popen(
        [MVSSL, *words], env=os.environ | dict(SLOW_S='15'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    trainings = Study('smoke', out=root).planned('supervised-100')
    wait_for(lambda: all((training.folder / 'checkpoint.pt').exists() for training in trainings))
    assert status('smoke', out=root).is_running
    assert set(
        status('smoke', out=root).jobs.set_index('name').loc[[training.name for training in trainings], 'state']
    ) == {'running'}
    with pytest.raises(ValueError, match='another process is running'):
        reproduce('smoke', out=root, only='supervised-100')
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not any(is_held(training.folder) for training in trainings), 12)  # nobody is left at work
    found = status('smoke', out=root)
    assert not found.is_running and str(found).count('step 15 of 20') == 2, 'logged after the checkpoint of step 10'

    done = command(*words)
    assert done.returncode == 0 and '2 run, 0 reused' in done.stdout, done.stdout + done.stderr
    for training in trainings:
        assert len(json.loads((training.folder / 'provenance.json').read_text())) == 2, 'one entry per sitting'
        assert [step for step in training.log['step']] == [0, 5, 10, 15, 20]
    assert once.config == trainings[0].config
    for name, weights in load_network(once.folder / 'weights.safetensors').state_dict().items():
        assert np.array_equal(weights, trainings[0].network().state_dict()[name]), name


TICKS = """
import time
plain = training.Trainer.step
def slowly(self):
    if os.environ.get('SLOW_S'): time.sleep(float(os.environ['SLOW_S']))
    return plain(self)
training.Trainer.step = slowly
"""


def test_a_batch_that_is_stopped_says_what_is_kept(root, tmp_path, monkeypatch):
    """While one training runs and another waits, by Ctrl-C, which all processes of a terminal get.

    It is before the first validation, so the checkpoint is that of the signal.
    """
    edited(
        EXPERIMENTS / 'train.ipynb',
        tmp_path / 'experiments' / 'train.ipynb',
        'import os' + TICKS,
        after='from mvssl import training',
    )
    monkeypatch.setenv('MVSSL_NOTEBOOKS', str(tmp_path / 'experiments'))
    words = ['reproduce', '--out', str(root), *'--profile smoke --only supervised-100 --jobs 1 --no-estimate'.split()]
    running = subprocess.Popen(
        [MVSSL, *words],
        env=os.environ | dict(SLOW_S='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first, second = (training.folder for training in Study('smoke', out=root).planned('supervised-100'))
    wait_for(lambda: (first / 'metrics.jsonl').exists() and 'images_per_s' in (first / 'metrics.jsonl').read_text())
    found = status('smoke', out=root)
    assert found.seconds_left > 0 and re.search(
        r'  running supervised-100-s0 .* step 5 of 20, \d+ images/s, \d+ s left', str(found)
    ), 'time left from the first line of a log'
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert (
        running.returncode == 130
        and err == 'stopped: 0 of 2 trainings, 0 of 0 analyses kept; the same command goes on\n'
    ), err
    assert not is_held(first) and not second.exists(), 'nobody is left at work, nothing was begun since'
    assert (first / 'checkpoint.pt').exists() and not [
        path for path in first.rglob('*') if path.name.endswith('.partial')
    ]
    nbformat.validate(nbformat.read(first / 'executed.ipynb', as_version=4))
    states = status('smoke', out=root).jobs.set_index('name')['state']
    assert [name for name, state in states.items() if state == 'begun'] == [
        'supervised-100-s0'
    ] and 'failed' not in set(states)

    done = command(*words)
    assert done.returncode == 0 and '2 run, 0 reused' in done.stdout, done.stdout + done.stderr
    assert len(json.loads((first / 'provenance.json').read_text())) == 2
    logged = [json.loads(line) for line in (first / 'metrics.jsonl').open()]
    assert [record['step'] for record in logged if 'images_per_s' in record] == [5, 10, 15, 20]


def test_what_fails_stops_only_what_needs_it(root, made_up):
    "A training fails, an analysis fails, an analysis needs the training, another needs neither; on one thread each."
    edited(
        made_up / 'train.ipynb',
        made_up / 'train.ipynb',
        "if arm == 'supervised' and seed == 1: raise RuntimeError('out of luck')",
        after='import json',
    )
    for name, cells in {
        '1_selection_of_negatives': ['# what is wrong\nnegatives = 1/0'],
        '3_pose_retrieval': [],
        '4_embedding_space': [],
    }.items():
        analysis(made_up, name, *cells)
    told = []
    summary = reproduce(
        'smoke',
        out=root,
        only=('1_selection_of_negatives', '3_pose_retrieval', '4_embedding_space'),
        jobs=2,
        say=told.append,
    )
    assert not summary.is_whole and summary.stopped == {'3_pose_retrieval': 'supervised-100-s1'}
    assert (
        set(summary.failed) == {'supervised-100-s1', '1_selection_of_negatives'}
        and '4_embedding_space' in summary.done
        and 'supervised-100-s0' in summary.done
    )
    assert re.search(
        r"cell \[\d+\] `if arm == 'supervised'.*`: RuntimeError: out of luck", summary.failed['supervised-100-s1']
    )
    assert re.search(
        r'cell \[\d+\] `negatives = 1/0`: ZeroDivisionError: division by zero \(see .*executed.ipynb\)',
        summary.failed['1_selection_of_negatives'],
    )
    assert (
        'failed: 1_selection_of_negatives: cell' in told[-1]
        and 'stopped: 3_pose_retrieval, which needs supervised-100-s1' in told[-1]
    )
    assert set(
        status('smoke', out=root).jobs.set_index('name')['state'].loc[['supervised-100-s1', 'supervised-100-s0']]
    ) == {'failed', 'done'}
    own = jobs_of(Study('smoke', out=root), ['4_embedding_space'])[1][0].folder
    with workers(jobs=2) as crew:
        assert f'threads {crew.threads}\n' in (own / 'log.txt').read_text()

    # mended, only what failed is run again; and what somebody deleted is made again
    analysis(made_up, '1_selection_of_negatives')
    (root / 'figures' / 'smoke-synthetic' / 'made_by_4.csv').unlink()
    summary = reproduce(
        'smoke', out=root, only=('1_selection_of_negatives', '4_embedding_space'), jobs=2, say=told.append
    )
    assert (
        summary.is_whole
        and set(summary.done) == {'1_selection_of_negatives', '4_embedding_space'}
        and len(summary.reused) == 3
    )
    assert (root / 'figures' / 'smoke-synthetic' / 'made_by_4.csv').exists()


def test_on_a_dask_cluster(root, made_up):
    "Two worker processes, known by an environment variable that only they have."
    from distributed import LocalCluster

    edited(
        made_up / 'train.ipynb',
        made_up / 'train.ipynb',
        "import os\nprint('on', os.environ.get('ON_A_WORKER'), os.environ['OMP_NUM_THREADS'])",
        after='import json',
    )
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, env=dict(ON_A_WORKER='worker')
    ) as cluster:
        summary = reproduce(
            'smoke', out=root, only='joint-100', scheduler=cluster.scheduler_address, say=lambda text: None
        )
    assert summary.is_whole and set(summary.done) == {'joint-100-s0', 'joint-100-s1'}
    for training in Study('smoke', out=root).trainings('joint-100'):
        assert f'on worker {max(1, module.cores() // 2)}\n' in (training.folder / 'log.txt').read_text()
    assert reproduce('smoke', out=root, only='joint-100', say=lambda text: None).reused == [
        'joint-100-s0',
        'joint-100-s1',
    ], 'the same keys here'


def test_stores_of_ones_own(root, made_up):
    "By path, with roles that are told once and kept; what they cannot give is left out with the reason."
    analysis(made_up, '4_embedding_space')
    asked = dict(
        profile='smoke',
        data=root / 'data/smoke/studio',
        second_data=root / 'data/smoke/stage',
        out=root,
        say=lambda text: None,
    )
    summary = reproduce(
        **asked, roles=dict(validation=['S8', 'V1'], test=['S9', 'S11', 'T1']), only='4_embedding_space'
    )
    assert (
        summary.is_whole
        and set(summary.done) == {'joint-100-s0', 'joint-100-s1', '4_embedding_space'}
        and summary.batch == 'smoke-studio'
    )
    assert (root / 'figures' / 'smoke-studio' / 'made_by_4.csv').exists() and not (
        root / 'data' / 'smoke-studio'
    ).exists()
    batch = Study('smoke', asked['data'], asked['second_data'], root)
    assert (batch.roles.labelled, batch.roles.validation, batch.roles.test) == (
        ('S1',),
        ('S8', 'V1'),
        ('S9', 'S11', 'T1'),
    ) and batch.second_test == ('S7', 'S8')
    assert len(reproduce(**asked, only='4_embedding_space').reused) == 3, 'the roles need not be said again'
    with pytest.raises(ValueError, match='--test must name subjects of studio, .*, got S99'):
        reproduce(**asked, roles=dict(test=['S99']))

    poses = np.load(batch.dataset.path / 'poses.npy')
    poses[:] = np.nan
    np.save(batch.dataset.path / 'poses.npy', poses)
    batch = Study('smoke', asked['data'], asked['second_data'], root)
    assert list(batch.groups) == ['metric'] and batch.left_out['joint-100'] == 'no poses in the store', (
        'pairs of views there are without labels too'
    )
    with pytest.raises(ValueError, match='--only 2_margin_ablation'):
        reproduce(**asked, only='2_margin_ablation')
    summary = reproduce(**asked)
    assert set(summary.left_out) == {*GROUPS, *NEEDS} - {'metric', '4_embedding_space'}
    assert set(summary.done) == {'metric-s0', 'metric-s1', '4_embedding_space'}


def test_no_cluster_at_the_address(root, made_up):
    with pytest.raises(ValueError, match='--scheduler must be the address of a running Dask scheduler'):
        reproduce('smoke', out=root, only='joint-100', scheduler='tcp://127.0.0.1:9', say=lambda text: None)


def test_two_batches_at_once(root, made_up):
    batch = Study('smoke', out=root)
    batch.runs.mkdir(parents=True)
    with hold(batch.runs):
        refused = command('reproduce', '--profile', 'smoke', '--out', root)
    assert (
        refused.returncode == 1
        and 'a batch that another process is running: wait for it, or stop it' in refused.stderr
        and len(refused.stderr.strip().splitlines()) == 1
    )


# ---- how long it takes -----------------------------------------------------------------------------------------------


def only_told(monkeypatch, **asked):
    "What a batch says before anything is made."

    class Enough(Exception):
        pass

    told = []
    with monkeypatch.context() as patch, pytest.raises(Enough):

        def enough(*args):
            raise Enough

        patch.setattr(module, '_make_stores', lambda *args: None)
        patch.setattr(module, '_run_notebooks', enough)
        reproduce(**dict(profile='smoke', say=told.append) | asked)
    return told


def test_the_estimate_comes_before_the_stores(tmp_path, monkeypatch):
    told = only_told(monkeypatch, out=tmp_path / 'new', jobs=2)
    assert told[0] == f'batch smoke-synthetic: 3 stores, {N} of {N} trainings, 6 of 6 analyses to make'
    head, parts, machine = told[1].splitlines()
    assert (
        re.fullmatch(rf'{N} trainings and 6 analyses: about \d+ s on 2 workers, fp32, AVX2', head)
        and re.fullmatch(r'  stores \d s, trainings \d+ s \(\d,\d+ images/s each\), analyses \d+ s', parts)
        and machine == '  on A processor'
    )
    assert len(told) == 2 and not (tmp_path / 'new' / 'data').exists()
    kept = json.loads((tmp_path / 'new' / 'runs' / 'smoke-synthetic' / 'estimate.json').read_text())
    assert set(kept['seconds']) == {
        *NEEDS,
        *(f'{group}-s{seed}' for group, n in PROFILES['smoke'].seeds.items() for seed in range(n)),
    }


def test_what_is_done_is_not_counted(root, made_up, monkeypatch):
    "A store that is there is not filmed; of three trainings one is done, and one has a quarter of its steps behind it."
    assert reproduce('smoke', out=root, only='supervised-100-s0', say=lambda text: None).is_whole
    begun = Study('smoke', out=root).planned('supervised-100')[1].folder
    begun.mkdir()
    (begun / 'config.json').write_text(json.dumps(dict(steps=20)))
    (begun / 'metrics.jsonl').write_text(json.dumps(dict(step=5, images_per_s=100.0, seconds=9.0)) + '\n')
    asked = []
    monkeypatch.setattr(
        module, 'measure_apart', lambda n, threads, **how: asked.append(how) or quick(n, threads, **how)
    )
    ahead = module.ahead_of(Study('smoke', out=root), ('supervised-100', 'joint-100-s0'))
    assert ahead.steps == {'supervised-100-s1': 15, 'joint-100-s0': 20} and ahead.films == {} and ahead.analyses == {}
    for name in ('_make_stores', '_run_notebooks'):
        monkeypatch.setattr(module, name, lambda *args: None)
    told = []
    reproduce('smoke', out=root, only=('supervised-100', 'joint-100-s0'), say=told.append)
    assert (
        told[0] == 'batch smoke-synthetic: 2 of 3 trainings, 0 of 0 analyses to make'
        and len(asked[0]['kinds']) == 2
        and asked[0]['film'] == ''
    )
    assert told[1].startswith('2 trainings: about ')
    told.clear()
    reproduce('smoke', out=root, only='supervised-100-s0', say=told.append)
    assert len(asked) == 1 and told[0] == 'batch smoke-synthetic: 0 of 1 trainings, 0 of 0 analyses to make', (
        'nothing is left, nothing is timed'
    )


@pytest.mark.parametrize(
    'profile, factor, says',
    [
        (
            'laptop',
            100,
            'that is over twice the 20 min that profile laptop should take; a smaller one:\n    --profile smoke',
        ),
        ('smoke', 1000, 'that is over twice the 4 min that profile smoke should take'),
        ('laptop', 1, None),
    ],
)
def test_a_machine_that_is_too_slow_is_told_so(tmp_path, monkeypatch, profile, factor, says):
    monkeypatch.setattr(module, 'cores', lambda: 2)
    monkeypatch.setattr(
        module,
        'measure_apart',
        lambda n, threads, kinds, **how: [
            replace(speed, steps={kind: factor * s for kind, s in speed.steps.items()})
            for speed in quick(n, threads, kinds, **how)
        ],
    )
    told = only_told(monkeypatch, profile=profile, out=tmp_path)
    assert told[2:] == ([says] if says else [])


@pytest.mark.parametrize('cores, warned', [(1, False), (2, True), (16, True)])
def test_one_core_is_given_twice_the_time(tmp_path, monkeypatch, cores, warned):
    "An hour, where two cores should take twenty minutes."
    monkeypatch.setattr(module, 'cores', lambda: cores)
    told, batch = [], Study('laptop', out=tmp_path)
    batch.runs.mkdir(parents=True)
    ahead = module.ahead_of(batch)
    measured = lambda function, **asked: [
        Speed(
            dict.fromkeys(asked['kinds'], 3600 / sum(ahead.steps.values())),
            dict.fromkeys(asked['kinds'], 0.0),
            0.0,
            dict(room=0.0, person=0.0, image=0.0),
        )
    ]
    module._foresee(batch, ahead, Workers(None, measured, 1, 1), told.append)
    assert 'analyses: about 60 min on 1 worker' in told[0] and (len(told) == 2) == warned


def test_a_machine_that_cannot_be_timed_trains_all_the_same(root, made_up, monkeypatch):
    def fails(*args, **more):
        raise NotMeasured('the machine is busy')

    monkeypatch.setattr(module, 'measure_apart', fails)
    told = []
    assert reproduce('smoke', out=root, only='supervised-100-s0', say=told.append).is_whole
    assert told[1] == 'how long it will take could not be measured: the machine is busy'


def test_nothing_is_timed_where_nobody_asks(root, made_up, monkeypatch):
    monkeypatch.setattr(module, 'measure_apart', None)
    told = []
    assert reproduce('smoke', out=root, only='supervised-100-s0', say=told.append, foresee=False, jobs=1).is_whole
    assert re.match(r'1 notebook at a time, \d threads? each', told[1]) and told[2].startswith(
        'supervised-100-s0 done in '
    )


def test_lines_of_a_batch_go_to_its_log_and_to_who_asked(root, made_up, monkeypatch):
    "A training that takes its time, and lines that are not waited for."
    for name, value in dict(look_s=0.05, first_s=0.0, every_s=0.05).items():
        monkeypatch.setattr(module.Watch, name, value)
    edited(made_up / 'train.ipynb', made_up / 'train.ipynb', 'import time\ntime.sleep(1)', after='import json')
    told = []
    assert reproduce('smoke', out=root, only='supervised-100-s0', say=told.append).is_whole
    lines = [text for text in told if text.startswith('trainings: 0 of 1 done, about ')]
    assert any('\n  supervised-100-s0          begun' in text for text in lines)
    assert lines[-1].splitlines()[0] in (root / 'runs' / 'smoke-synthetic' / 'log.txt').read_text()


# ---- how far it is ---------------------------------------------------------------------------------------------------


def test_status_knows_from_the_estimate(tmp_path, root, monkeypatch):
    "Before anything has run, and when one training has taken twice what was thought."
    only_told(monkeypatch, out=root, jobs=2)
    batch = Study('smoke', out=root)
    thought = json.loads((batch.runs / 'estimate.json').read_text())
    before = status('smoke', out=root, jobs=2)
    assert before.seconds_left == pytest.approx(thought['trainings'] + thought['analyses']) and 'about ' in str(before)
    folder = batch.planned('joint-100')[0].folder
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(dict(steps=20)))
    steps = thought['steps']['joint-100-s0']
    spent = (
        thought['seconds']['joint-100-s0'] - steps
    ) / 2 + steps  # where half of the steps were thought to take half of the last, and to start the rest
    (folder / 'metrics.jsonl').write_text(json.dumps(dict(step=10, images_per_s=100.0, seconds=spent)) + '\n')
    assert status('smoke', out=root, jobs=2).seconds_left == pytest.approx(2 * before.seconds_left, rel=0.1)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'asked, message',
    [
        (dict(profile='big'), f"profile must be one of {', '.join(PROFILES)}, got 'big'"),
        (dict(only='joint-1'), '--only must name stores, report, an analysis'),
        (dict(only='info_nce'), 'not part of profile smoke'),
        (dict(jobs=0), '--jobs must be positive'),
        (dict(roles=dict(test=['S9'])), '--test is for stores of your own'),
        (dict(data='nowhere'), 'there is no folder'),
    ],
)
def test_refusals(root, made_up, asked, message):
    with pytest.raises(ValueError, match=message):
        reproduce(**dict(profile='smoke', out=root, say=lambda text: None) | asked)


@pytest.mark.parametrize(
    'only, message',
    [
        ('nosuch', "got 'nosuch'"),
        ('joint-100-s7', "got 'joint-100-s7'"),
        ('info_nce', 'not part of profile smoke'),
        (('stores', 'nosuch'), "got 'nosuch'"),
    ],
)
def test_a_name_that_is_none_is_refused_before_the_stores_are_made(tmp_path, only, message):
    with pytest.raises(ValueError, match=message):
        reproduce('smoke', out=tmp_path / 'new', only=only, say=lambda text: None)
    assert not (tmp_path / 'new').exists()


def test_starts_are_made_once_for_all_arms_of_a_seed(root, made_up, monkeypatch):
    monkeypatch.setattr(module, '_make_store', lambda *_: None)
    file = Path(Study('smoke', out=root).planned('paper-joint')[0].config.start)
    shutil.rmtree(file.parent, ignore_errors=True)

    def made():
        "Lines on starts."
        said = []
        reproduce('smoke', out=root, only='paper-joint-s0', say=said.append, foresee=False)
        return [line for line in said if line.startswith('start of seed')]

    first = made()
    assert len(first) == 1 and first[0].startswith('start of seed 0, batch normalisation, from 2D joints of a pool')
    assert load_network(file).config['norm'] == 'batch' and list(file.parent.iterdir()) == [file]
    assert made() == []
    facts = json.loads((root / 'data/smoke/pool/dataset.json').read_text())
    (root / 'data/smoke/pool/dataset.json').write_text(json.dumps(facts | dict(checksum='0' * 32)))
    assert len(made()) == 1  # of other people


def test_starts_of_several_seeds_are_made_at_once_and_are_the_same(root, monkeypatch):
    seeds = PROFILES['smoke'].seeds | {'paper-joint': 2}
    monkeypatch.setitem(PROFILES, 'smoke', replace(PROFILES['smoke'], seeds=seeds))
    study, weights = Study('smoke', out=root), {}
    files = [Path(training.config.start) for training in study.planned('paper-joint')]
    for n in (1, 2):
        monkeypatch.setattr(module, 'cores', lambda n=n: n)
        shutil.rmtree(files[0].parent, ignore_errors=True)
        said = []
        module.make_starts(study, ['paper-joint'], said.append)
        assert len(said) == 2 and {line[:15] for line in said} == {'start of seed 0', 'start of seed 1'}
        weights[n] = [load_network(file).state_dict() for file in files]
    for alone, beside in zip(weights[1], weights[2]):
        for name, value in alone.items():
            torch.testing.assert_close(value, beside[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_store_of_other_settings_is_not_overwritten(root, made_up, monkeypatch):
    before = (root / 'data/smoke/studio/dataset.json').read_bytes()
    monkeypatch.setitem(PROFILES, 'smoke', replace(PROFILES['smoke'], studio=PROFILES['smoke'].studio | dict(S1=88)))
    with pytest.raises(ValueError, match='a store of other settings than profile smoke has now'):
        reproduce('smoke', out=root, only='stores', say=lambda text: None)
    assert (root / 'data/smoke/studio/dataset.json').read_bytes() == before


@pytest.mark.parametrize(
    'name, extra', [('papermill', 'notebooks'), ('joblib', 'notebooks'), ('distributed', 'cluster')]
)
def test_an_extra_that_is_not_installed_is_named(root, made_up, monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"{name} is not installed .* pip install 'mvssl\[{extra}\]'"):
        reproduce('smoke', out=root, only='joint-100', scheduler='tcp://127.0.0.1:9', say=lambda text: None)
