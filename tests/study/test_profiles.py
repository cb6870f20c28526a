"""Profiles: every group is a training that can be run, and arms differ in what their names say."""

from dataclasses import replace

import pytest

from mvssl.study.batch import groups
from mvssl.study.profiles import GROUPS, PROFILES
from mvssl.training import TrainConfig


@pytest.mark.parametrize('profile', PROFILES.values(), ids=list(PROFILES))
def test_arms_differ_in_the_arm_alone(profile):
    "Every group is a configuration; those of the headline share all but their arm and what a group is given by name."
    asked = groups(replace(profile, seeds=dict.fromkeys(GROUPS, 1), of_group={}))
    configs = {
        name: TrainConfig(**dict(validation=profile.validation, test=profile.test) | profile.train | changes)
        for name, changes in asked.items()
    }
    for percent in (100, 10, 2):
        alike = {repr(replace(configs[f'{arm}-{percent}'], arm='joint')) for arm in ('supervised', 'control', 'joint')}
        assert len(alike) == 1
    changed = {
        name: {field for field, value in vars(config).items() if value != getattr(configs['joint-100'], field)}
        for name, config in configs.items()
    }
    assert (
        changed['joint-m0.8-b0.4'] == {'margin', 'beta'}
        and changed['joint-neither'] == {'chunk', 'beta'}
        and changed['info_nce'] == {'loss'}
    )
    assert changed['supervised-all'] == {'arm', 'labelled'} and len(configs['supervised-all'].labelled) > len(
        profile.labelled
    )
    assert not set(configs['supervised-all'].labelled) & {*profile.validation, *profile.test}


def test_every_training_subject_of_the_largest_profiles_is_somebody():
    for name in ('laptop', 'desk', 'gpu'):
        profile = PROFILES[name]
        assert len(profile.test) >= 8 and all(
            subject in profile.studio for subject in profile.test + profile.validation
        )
        assert all(
            profile.seeds[group] >= 3
            for group in (
                'supervised-100',
                'control-100',
                'joint-100',
                *(group for group in GROUPS if group.startswith('joint-m')),
            )
        )
