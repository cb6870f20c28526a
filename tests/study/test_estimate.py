"""How long a batch will take: what is timed, what is made of it, and what is read from the logs of what runs."""

import json
import math
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mvssl.study import estimate
from mvssl.study.outlook import Costs, Watch, costs_of, course_of, left_in_words, part_of, seconds_left
from mvssl.study.estimate import (
    Ahead,
    NotMeasured,
    Part,
    Speed,
    images_looked_at,
    kind_of,
    makespan,
    measure_apart,
    measure_speed,
    noise_store,
    time_left,
)
from mvssl.training import TrainConfig, images_per_step

TINY = TrainConfig(width=8, n_pairs=4, n_labelled=6, subjects_per_batch=2, validation=('V',), test=())


# ---- what is timed ---------------------------------------------------------------------------------------------------


def test_every_kind_is_timed_in_processes_that_run_at_once():
    "Two processes, two kinds, the filming of a rig; and their own start."
    kinds = {kind_of(config): config for config in (TINY, replace(TINY, arm='supervised'))}
    found = measure_apart(2, 1, kinds, side=32, views=2, seconds=0.2, film='studio', device='cpu')
    assert len(found) == 2
    for speed in found:
        assert speed.steps.keys() == speed.images.keys() == kinds.keys() and all(
            0 < value < 100 for value in (*speed.steps.values(), *speed.images.values())
        )
        assert speed.start > 0.1 and speed.film.keys() == {'room', 'person', 'image'} and speed.film['image'] > 0
        assert speed.bound.split(', ')[0] in ('bf16', 'fp32') and speed.processor


def test_what_cannot_be_timed_is_said():
    with pytest.raises(NotMeasured, match='nowhere'):
        measure_apart(1, 1, {'tiny': TINY}, side=32, views=2, seconds=0.1, device='nowhere')
    with pytest.raises(NotMeasured, match='not done after 0 s, the machine is busy'):
        measure_apart(1, 1, {'tiny': TINY}, patience_s=0, side=32, views=2, seconds=0.1)


@pytest.mark.parametrize(
    'config',
    [
        TINY,
        replace(TINY, arm='supervised'),
        replace(TINY, arm='metric'),
        replace(TINY, n_pairs=16, subjects_per_batch=8, chunk=1),
        replace(TINY, norm='batch', head_reads='embedding'),
        replace(TINY, labelled=('S1', 'S5'), label_fraction=0.02, new_takes=3, start='synthetic2d', validation=('S8',)),
    ],
)
def test_the_store_of_noise_feeds_whole_batches(config, tmp_path):
    "Each kind of training takes its steps on it, with batches as large as were asked for."
    found = measure_speed({'one': config}, side=32, views=2, seconds=0, device='cpu')
    assert found.steps['one'] > 0
    store = noise_store(tmp_path / 'noise', 32, 2, config.n_pairs, config.subjects_per_batch, config.n_labelled)
    trainer = estimate.Trainer(
        replace(
            config,
            labelled=('S1',) * config.uses_labels,
            unlabelled=None,
            validation=('V',),
            new_takes=0,
            label_fraction=1.0,
            start='random',
        ),
        store,
    )
    batches = {name: len(next(batch).images) for name, batch in trainer.batches.items()}
    assert batches == {
        name: size
        for name, size in dict(
            pairs=2 * config.n_pairs * config.uses_pairs, labelled=config.n_labelled * config.uses_labels
        ).items()
        if size
    }
    assert sum(batches.values()) == images_per_step(config)


def test_only_what_leaves_a_step_alone_is_taken_for_the_same():
    "Every field of a configuration either makes another kind, or is on the list; one that does not exist is a slip."
    fields = set(vars(TINY))
    assert set(estimate._SAME_TIME) <= fields
    for name in (
        'arm',
        'width',
        'dim',
        'n_pairs',
        'n_labelled',
        'norm',
        'head_reads',
        'loss',
        'precision',
        'augmentation',
        'cached',
        'compile',
        'ema',
    ):
        assert name in fields - set(estimate._SAME_TIME)


# ---- what is made of it ----------------------------------------------------------------------------------------------


def test_jobs_are_packed_as_workers_take_them():
    assert makespan([10, 9, 8, 1, 1, 1], 3) == 10 and makespan([4], 8) == 4 and makespan([], 3) == 0
    assert makespan([2] * 27, 2) == 28, 'fourteen rounds'


def test_looks_at_validation_and_the_table_of_errors():
    config = replace(TINY, steps=100, validate_every=30, log_every=10, validation=('V',), test=('T',))
    sizes = dict(A=1000, V=50, T=20)
    assert images_looked_at(config, sizes, 4) == (4 * (50 + 256) + 2 * (600 + 50 + 20)) * 4
    assert images_looked_at(replace(config, arm='metric', labelled=()), sizes, 4) == 4 * (50 + 256) * 4, (
        'no labels, no table'
    )


def slow_and_fast():
    joint, alone = TINY, replace(TINY, arm='supervised')
    speed = Speed(
        {kind_of(joint): 0.02, kind_of(alone): 0.01},
        dict.fromkeys(map(kind_of, (joint, alone)), 0.0),
        1.0,
        {},
        'fp32, AVX2',
        'A processor',
    )
    return joint, alone, speed


def test_kinds_are_reckoned_apart_and_what_is_done_is_left_out():
    joint, alone, speed = slow_and_fast()
    ahead = Ahead(
        {'joint-s0': joint, 'alone-s0': alone}, {'joint-s0': 100, 'alone-s0': 1000}, {'look': 0}, dict(S1=10), 2, 32
    )
    found = estimate.estimate(
        ahead,
        [speed, replace(speed, steps={kind: 3 * s for kind, s in speed.steps.items()}), speed],
        workers=2,
        cores=2,
    )
    assert found.seconds == pytest.approx({'joint-s0': 2 * 1 + 2.0, 'alone-s0': 2 * 1 + 10.0, 'look': 2.0}), (
        'the middle one of three workers counts'
    )
    assert (found.trainings, found.analyses, found.stores) == pytest.approx((12.0, 2.0, 0.0))
    lines = found.lines()
    assert (
        lines[0] == '2 trainings and 1 analysis: about 14 s on 2 workers, fp32, AVX2'
        and 'trainings 12 s (' in lines[1]
        and 'A processor' in lines[2]
    )
    assert max(map(len, lines)) <= 80


def test_lines_fit_whatever_the_numbers():
    joint, _, speed = slow_and_fast()
    names = [f's{i}' for i in range(1000)]
    found = estimate.estimate(
        Ahead(
            dict.fromkeys(names, joint),
            dict.fromkeys(names, 100_000),
            dict.fromkeys('abcde', 10**6),
            {},
            4,
            128,
            dict(studio=(10, 10**6)),
        ),
        [replace(speed, film=dict(room=1.0, person=1.0, image=1.0), processor='A' * 90)],
        128,
        128,
    )
    assert max(map(len, found.lines())) <= 80


# ---- what is left ----------------------------------------------------------------------------------------------------


def log(folder, steps, *records, done_s=None):
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(dict(steps=steps)))
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in records))
    (folder / 'log.txt').touch()
    if done_s:
        (folder / 'outcome.json').write_text(json.dumps(dict(seconds=done_s)))


def lines(n, every_s, rate=400.0, step=10):
    return [dict(step=0, precision='fp32', seconds=1.0)] + [
        dict(step=step * (i + 1), images_per_s=rate, seconds=5 + every_s * i) for i in range(n)
    ]


def test_a_training_is_timed_by_its_own_lines(tmp_path):
    "Between lines, so that the start does not count; with validation, which the images per second leave out."
    log(tmp_path / 'a', 100, *lines(5, every_s=2.0))
    found = course_of(tmp_path / 'a')
    assert (found.step, found.steps, found.left, found.spent) == (50, 100, pytest.approx(10.0), 13.0)
    log(tmp_path / 'b', 100, *lines(1, every_s=0))
    assert course_of(tmp_path / 'b').left == pytest.approx(45.0), 'the first line tells already'
    log(tmp_path / 'c', 100, dict(step=0, precision='fp32', seconds=1.0))
    assert course_of(tmp_path / 'c') is None and course_of(tmp_path / 'none') is None
    (tmp_path / 'b' / 'metrics.jsonl').open('a').write('{"step": 2')
    assert course_of(tmp_path / 'b').step == 10, 'a torn line is none'


def test_what_is_not_begun_follows_from_what_runs():
    half = Part(cost=100, share=0.5, spent=100.0, left=90.0)  # two seconds for each
    assert time_left([half, Part(100)], 2) == 200 and time_left([half, Part(100)], 1) == 290
    assert math.isnan(time_left([Part(1)], 1)) and time_left([], 1) == 0 and time_left([Part(1, 1.0, 5.0)], 1) == 0
    assert time_left([Part(100, 1.0, 50.0), Part(100, 0.5, math.nan)], 1) == 25, (
        'begun earlier: at the pace of the others'
    )


def test_analyses_follow_the_trainings_only_where_costs_are_seconds():
    half = Part(cost=100, share=0.5, spent=100.0, left=100.0)
    assert seconds_left([half], [Part(10)], 2, True) == (100, 20)
    trainings, analyses = seconds_left([half], [Part(1)], 2, False)
    assert (
        trainings == 100
        and math.isnan(analyses)
        and left_in_words(trainings, analyses) == 'about 2 min left for trainings'
    )
    assert left_in_words(math.nan, math.nan) == '' and left_in_words(100, 20) == 'about 2 min left'


def test_costs_are_estimated_seconds_where_all_were_estimated(tmp_path):
    jobs = [SimpleNamespace(name='a', images=100), SimpleNamespace(name='b', images=0)]
    images = Costs({'a': 100, 'b': 1.0}, {}, False)
    assert costs_of(tmp_path, jobs) == images
    (tmp_path / 'estimate.json').write_text(json.dumps(dict(seconds=dict(a=7.0))))
    assert costs_of(tmp_path, jobs) == images
    (tmp_path / 'estimate.json').write_text(json.dumps(dict(seconds=dict(a=7.0, b=2.0), steps=dict(a=5.0))))
    assert costs_of(tmp_path, jobs) == Costs({'a': 7.0, 'b': 2.0}, {'a': 5.0}, True)


def test_the_part_of_a_job(tmp_path):
    log(tmp_path / 'done', 100, *lines(10, 2.0), done_s=40.0)
    log(tmp_path / 'runs', 100, *lines(5, 2.0))
    job = lambda name: SimpleNamespace(name=name, folder=tmp_path / name)
    names = ('done', 'runs', 'none')
    images, seconds = (
        Costs(dict.fromkeys(names, 700), {}, False),
        Costs(dict.fromkeys(names, 30.0), dict.fromkeys(names, 20.0), True),
    )
    assert part_of(job('done'), images, 'done') == Part(700, 1.0, 40.0) and part_of(
        job('none'), images, 'missing'
    ) == Part(700)
    assert part_of(job('runs'), images, 'running') == Part(700, 0.5, 13.0, pytest.approx(10.0))
    assert part_of(job('runs'), seconds, 'running') == Part(30.0, 0.5, 5.0 + 13.0, pytest.approx(10.0 + 5.0)), (
        'it has started, half of its steps are done, its table of errors is still to come'
    )
    assert math.isnan(part_of(job('runs'), seconds, 'begun').left)


@pytest.fixture
def watched(tmp_path):
    "Ten trainings, of which three run and one is over; one that was begun in an earlier batch waits."
    jobs = [SimpleNamespace(name=f'joint-m0.4-b0.2-s{i}', folder=tmp_path / str(i)) for i in range(10)]
    told = []
    watch = Watch('trainings', jobs, Costs({job.name: 100.0 for job in jobs}, {}, False), 3, told.append)
    for i in range(3):
        log(tmp_path / str(i), 1100, *lines(3 if i else 0, 2.0))
    log(tmp_path / '5', 1100, *lines(50, 2.0))
    os.utime(tmp_path / '5' / 'log.txt', (1e9, 1e9))
    watch.ended(jobs[9].name, 300.0)
    return watch, told


def test_lines_tell_who_runs_how_fast_and_for_how_long(watched):
    watch, _ = watched
    lines = watch.lines()
    assert lines[0].startswith('trainings: 1 of 10 done, about ') and lines[0].endswith(' left')
    assert lines[1].split() == ['joint-m0.4-b0.2-s0', 'begun'] and len(lines) == 4
    assert lines[2].split(maxsplit=1)[1] == 'step 30 of 1,100, 400 images/s, 4 min left' and max(map(len, lines)) <= 80
    watch.most = 1
    assert watch.lines()[-1] == '  and 2 more'
    watch.stop = True
    watch.ended('joint-m0.4-b0.2-s7')
    assert watch.lines()[0] == 'trainings: 1 of 10 done, stopping'


def test_a_line_comes_without_anybody_asking(watched, monkeypatch):
    watch, told = watched
    for name, value in dict(look_s=0.01, first_s=0.0, every_s=0.05).items():
        monkeypatch.setattr(Watch, name, value)
    with watch:
        began = time.monotonic()
        while len(told) < 2:
            assert time.monotonic() < began + 60, 'waited in vain'
    n = len(told)
    assert told[0][0].startswith('trainings: 1 of 10 done')
    time.sleep(0.2)
    assert len(told) == n, 'nothing is told once it is over'


def test_at_least_a_line_a_minute():
    assert Watch.first_s <= 60 and Watch.every_s + Watch.look_s <= 61


def test_bars_show_the_wave_and_who_runs(watched):
    watch, _ = watched
    rows = watch.rows()
    assert [name for name, *_ in rows] == ['trainings', *(f'joint-m0.4-b0.2-s{i}' for i in range(3))]
    assert (
        rows[0][1] == pytest.approx((100 + 2 * 100 * 30 / 1100) / 1000)
        and rows[1][2] == ['begun']
        and rows[2][1] == pytest.approx(30 / 1100)
    )
