"""A study: what it has, where it is, what it says where something is missing."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from experiments_fixture import analysis

from mvssl.study import batch as module
from mvssl.study.batch import Roles, Study, notebook_named, root_of
from mvssl.study.keys import parameters_of
from mvssl.study.plan import names_of
from mvssl.study.profiles import NEEDS, PROFILES
from mvssl.study.reproduce import reproduce


def test_other_test_subjects_of_the_second_store_make_an_analysis_stale(root, monkeypatch):
    folder = Study('smoke', out=root).analysis('3_pose_retrieval').folder
    assert Study('smoke', out=root).analysis('3_pose_retrieval').folder == folder
    monkeypatch.setitem(PROFILES, 'smoke', replace(PROFILES['smoke'], second_test=('S7',)))
    assert Study('smoke', out=root).analysis('3_pose_retrieval').folder != folder


def test_keys_change_with_configuration_and_data(root, made_up):
    batch = Study('smoke', out=root)
    folders = {
        batch.folder_of(batch.config(seed, **changes))
        for seed, changes in ((0, {}), (1, {}), (0, dict(margin=0.7)), (0, dict(augmentation=None)))
    }
    assert len(folders) == 4
    facts = json.loads((root / 'data/smoke/studio/dataset.json').read_text())
    (root / 'data/smoke/studio/dataset.json').write_text(json.dumps(facts | dict(checksum='0' * 32)))
    assert Study('smoke', out=root).folder_of(batch.config(0)) not in folders


def test_a_training_asked_for_by_hand_is_that_of_its_group(root):
    batch = Study('smoke', out=root)
    for group in batch.groups:
        for training in batch.planned(group):
            words = batch.job_of(training).parameters
            config = batch.config(
                words['seed'],
                arm=words['arm'],
                margin=words['margin'],
                beta=words['beta'],
                **json.loads(words['overrides']),
            )
            assert (
                config == training.config
                and batch.name_of(config) == training.name
                and batch.folder_of(config) == training.folder
            )
    assert batch.name_of(batch.config(0, margin=0.7)) == 'joint-m0.7-b0.3-s0'


def test_a_shared_start_belongs_to_those_that_ask_for_it(root, monkeypatch):
    "Its path is another one elsewhere, so keys know the pool in its place; arms of a seed have the same file."
    study = Study('smoke', out=root)
    joint, control = (study.planned(group)[0] for group in ('paper-joint', 'paper-control'))
    assert joint.config.start == control.config.start == str(study.start_file(joint.config))
    assert Path(joint.config.start).parent == root / 'data' / 'smoke' / 'starts'
    assert study.start_file(study.config(1, norm='batch')) != study.start_file(joint.config)  # another seed
    assert 'starts' not in study.job_of(joint).parameters['overrides']
    plain = study.planned('joint-100')[0]
    assert plain.config.start == 'random'
    monkeypatch.setattr(study.pool, 'checksum', '0' * 32)
    assert study.planned('joint-100')[0].folder == plain.folder
    assert study.planned('paper-joint')[0].folder != joint.folder
    moved = replace(joint.config, start='synthetic2d')
    assert Study('smoke', out=root).folder_of(moved, joint.name) == joint.folder


def test_what_another_study_has_left_makes_an_analysis_stale(root, monkeypatch):
    asked = dict(paper_way=dict(other='desk-synthetic'))
    monkeypatch.setitem(PROFILES, 'smoke', replace(PROFILES['smoke'], analyses=asked))
    table = root / 'figures' / 'desk-synthetic' / 'paper_way.csv'
    before = Study('smoke', out=root).analysis('paper_way').folder
    table.parent.mkdir(parents=True)
    table.write_text('a\n1\n')
    after = Study('smoke', out=root).analysis('paper_way').folder
    assert before != after == Study('smoke', out=root).analysis('paper_way').folder


def test_an_analysis_must_name_its_parameters(root, made_up):
    analysis(made_up, '4_embedding_space')
    with pytest.raises(ValueError, match='config must hold the own parameters of 4_embedding_space, seed, got k'):
        Study('smoke', out=root).open_run('4_embedding_space', dict(k=3))


def test_without_a_checkout_the_notebooks_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, '_HOME', tmp_path / 'site-packages' / 'mvssl')
    monkeypatch.chdir(tmp_path)
    assert root_of() == tmp_path
    with pytest.raises(ValueError, match='name their folder by the environment variable MVSSL_NOTEBOOKS'):
        reproduce('smoke')


# ---- what is said where something is missing -------------------------------------------------------------------------


@pytest.mark.parametrize('notebook', sorted(NEEDS))
def test_errors_of_an_analysis_name_one_command_that_makes_all_it_needs(tmp_path, root, notebook):
    "Without a store and without trainings; with the profile, in folders with a space too. Its page names it as well."
    config = parameters_of(notebook_named(notebook))
    for out, missing in (
        (tmp_path / 'a new place', 'there is no finished store'),
        (root, 'not trained yet'),
    ):
        study = Study('smoke', out=out)
        with pytest.raises(ValueError, match=missing) as refused:
            study.open_run(notebook, config)
            study.trainings('joint-100')
        command = str(refused.value).rpartition('mvssl ')[2]
        assert shlex.split(command) == ['reproduce', '--profile', 'smoke', '--out', str(out), '--only', notebook]
    names_of(Study('smoke', out=root), [notebook])  # not refused
    page = ''.join(
        cell.source for cell in nbformat.read(notebook_named(notebook), as_version=4).cells if cell.source[:1] == '#'
    )
    assert f'mvssl reproduce --profile smoke --only {notebook}' in page


def test_pairs_of_a_second_store_are_asked_for_where_it_can_give_them(root, made_up, tmp_path):
    "Its checksum is part of the key; where there is nobody to train on, the reason is said."
    studio, stage = (root / f'data/smoke/{rig}' for rig in ('studio', 'stage'))
    own = Study('smoke', out=root)
    assert own.planned('both-100')[0].config.second_held_out == ('S7', 'S8')
    other = Study('smoke', studio, stage, tmp_path)
    assert other.second_held_out == ('S7', 'S8') and other.seeds('both-100') == (0, 1)
    beside_itself = Study('smoke', second_data=studio, out=root)
    keys = {study.planned('both-100')[0].folder.name[-8:] for study in (own, beside_itself)}
    assert len(keys) == 2 and beside_itself.second_held_out == ('S8',)
    assert Study('smoke', studio, '', tmp_path).left_out['both-100'].startswith('there is no second store')


def test_a_store_may_say_who_is_who_and_name_its_test_sets(root, made_up, tmp_path):
    "What the study is told counts more; test subjects of a second store are those that it names."
    store = tmp_path / 'cast'
    shutil.copytree(root / 'data/smoke/studio', store)
    facts = json.loads((store / 'dataset.json').read_text())
    roles = dict(labelled=['S1'], validation=['V1'], test={'near': ['S9'], 'far': ['S11', 'T1']})
    facts['extra']['roles'] = roles
    (store / 'dataset.json').write_text(json.dumps(facts))
    asked = ('smoke', store, store, tmp_path)
    batch = Study(*asked)
    assert batch.roles == Roles(('S1',), ('V1',), ('S9', 'S11', 'T1'))
    assert batch.test_sets == dict(near=('S9',), far=('S11', 'T1')) and batch.second_test == ('S9', 'S11', 'T1')
    assert batch.second_held_out == ('S9', 'S11', 'T1', 'V1') == batch.planned('both-100')[0].config.second_held_out
    batch.tell_roles(test=['S9'])
    assert (batch.roles.test, batch.roles.validation, batch.test_sets) == (('S9',), ('V1',), {})
    assert Study('smoke', out=root).test_sets == {}


def test_labels_of_one_more_need_one_more_with_labels(root, made_up, tmp_path):
    "The first other training subject in the order of the store; where all are labelled already, the reason is said."
    study = Study('smoke', root / 'data/smoke/studio', '', tmp_path)
    held_out = dict(validation=['S8', 'V1'], test=['S9', 'S11', 'T1'])
    study.tell_roles(keep=False, labelled=['S5'], **held_out)
    assert study.groups['joint-plus1']['labelled'] == ('S5', 'S1')
    study.tell_roles(keep=False, labelled=['S1', 'S5', 'U01', 'U02', 'U03'], **held_out)
    for group in ('joint-plus1', 'supervised-all'):
        assert study.left_out[group] == 'no training subject has poses beyond the labelled ones'
