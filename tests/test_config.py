"""Settings explain themselves, those that make no sense are refused, and nobody who is held out is trained on."""

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from mvssl.batches import Augmentation
from mvssl.config import ARMS, TrainConfig, evenly, split
from mvssl.sources.synthetic import make_dataset

SUBJECTS = ('S1', 'S5', 'S6', 'S8', 'S9')
TINY = TrainConfig(test=('S9',))


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'studio'
    return make_dataset(folder, subjects=SUBJECTS, instants=120, side=32, progress=False)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(arm='semi'), 'arm must be one of'),
        (dict(steps=0), 'steps must be positive, got 0'),
        (dict(label_fraction=0), 'label_fraction must lie'),
        (dict(ema=1.0), 'ema must lie'),
        (dict(labelled='S1'), "labelled must be a tuple of names, as in ('S1',), got 'S1'"),
        (dict(validation=('S1',)), 'validation must have no subject in common'),
        (dict(alpha=-1), 'alpha must not be'),
        (dict(unlabelled=('S9',)), 'test must have no subject in common'),
        (dict(cached=8, norm='batch'), 'cached must be None'),
        (dict(n_pairs=1), 'n_pairs must be at least 2'),
        (dict(validate_every=15), 'validate_every must be a multiple'),
        (dict(precision='fp16'), 'precision must be one of'),
        (dict(memory_format='nhwc'), 'memory_format must be one of'),
        (dict(optimizer='sgd'), 'optimizer must be one of'),
        (dict(lr=0.0), 'lr must be positive or None'),
        (dict(grid=0), 'grid must be positive'),
        (dict(pose_kind='l3'), 'pose_kind must be one of'),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        TrainConfig(**wrong)
    assert message in str(error.value)


def test_a_configuration_does_not_change_and_survives_json():
    with pytest.raises(AttributeError):
        TINY.lr = 1.0
    assert TrainConfig(**json.loads(json.dumps(asdict(TINY)))) == TINY


@pytest.mark.parametrize('n, fraction', [(1, 0.1), (7, 0.5), (10, 1.0), (97, 0.1), (100, 0.01)])
def test_a_fraction_is_spread_evenly(n, fraction):
    kept = np.flatnonzero(evenly(n, fraction))
    assert len(kept) == max(1, round(n * fraction)) and (len(kept) < 2 or np.ptp(np.diff(kept)) <= 1)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(steps='12'), "steps must be a whole number, got '12'"),
        (dict(steps=1.5), 'steps must be a whole number'),
        (dict(margin='0,6'), 'margin must be a number, with a decimal point'),
        (dict(seed=True), 'seed must be a whole number'),
        (dict(compile=1), 'compile must be True or False'),
        (dict(lr='1e-3'), 'lr must be a number'),
        (dict(cached=2.0), 'cached must be a whole number'),
        (dict(margin=math.inf), 'margin must be finite'),
        (dict(lr=math.nan), 'lr must be finite'),
    ],
)
def test_numbers_are_numbers(wrong, message):
    with pytest.raises(ValueError) as error:
        TrainConfig(**wrong)
    assert message in str(error.value)


def test_every_setting_explains_itself():
    "The command line takes help and choices from here."
    for field in fields(TrainConfig):
        assert len(field.metadata['help']) > 10, field.name
        assert field.metadata['kind'] in (bool, int, float, str, tuple, Augmentation, type(None)), field.name
        if field.metadata['choices']:
            assert field.default in field.metadata['choices']


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(test=('S9', 'S11')), "test must name subjects of the store, which has S1, S5, S6, S8, S9, got ('S11',)"),
        (dict(labelled=('s1',)), "labelled must name subjects"),
        (dict(validation=('S7',)), 'validation must name'),
    ],
)
def test_names_that_the_store_has_not(store, wrong, message):
    with pytest.raises(ValueError) as error:
        split(replace(TINY, **wrong), store)
    assert message in str(error.value)


def test_who_is_held_out_is_in_no_other_part(store):
    subject = store.table['subject'].to_numpy()
    for arm in ARMS:
        parts = split(replace(TINY, arm=arm, new_takes=1), store)
        assert not (parts.new_takes & (parts.labelled | parts.pairs)).any()
        assert not {*subject[parts.labelled], *subject[parts.pairs]} & {'S8', 'S9'}
        assert set(subject[parts.new_takes]) == (set() if arm == 'metric' else {'S1'})
