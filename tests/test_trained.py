"""Networks that come along are whole, say what they are, and are taken by name wherever a run is asked for."""

import json
import shutil

import pytest
import torch

from conftest import command
from mvssl import trained_names, trained_network
from mvssl.encoder import read_header
from mvssl.refusal import Refusal
from mvssl.show.search import weights_of
from mvssl.trained import card, trained_file


def test_they_are_of_a_size_that_a_package_can_hold_and_say_whom_they_have_seen():
    assert trained_names() == ('studio-joint', 'studio-metric')
    for name in trained_names():
        file, notes = trained_file(name), read_header(trained_file(name))['notes']
        assert file.stat().st_size < 4e6
        assert notes['train']['arm'] == name.removeprefix('studio-')
        held_out = {*notes['train']['validation'], *notes['train']['test']}
        assert len(notes['train']['test']) == notes['people']['test'] and len(held_out) > notes['people']['test']
        assert notes['test']['nearest_mm'] < 0.75 * notes['test']['chance_mm']
        assert ('mpjpe_mm' in notes['test']) == (notes['train']['arm'] == 'joint')
        assert all(str(text) for text in card(name).values())


def test_what_they_give_are_unit_vectors_and_poses():
    for name in trained_names():
        z, pose = trained_network(name)(torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8))
        torch.testing.assert_close(z.norm(dim=1), torch.ones(2))
        assert pose.shape == (2, 17, 3) and not trained_network(name).training


def test_a_run_of_the_same_name_is_taken_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert weights_of('studio-joint') == trained_file('studio-joint')
    (tmp_path / 'studio-joint').mkdir()
    with pytest.raises(Refusal, match='there is no weights.safetensors in studio-joint'):
        weights_of('studio-joint')
    shutil.copy(trained_file('studio-metric'), tmp_path / 'studio-joint' / 'weights.safetensors')
    assert weights_of('studio-joint').parent.name == 'studio-joint'
    with pytest.raises(Refusal, match='Networks that come along: studio-joint, studio-metric'):
        weights_of('studio-joined')


def test_commands_take_them_by_name(smoke_stores, tmp_path):
    store = smoke_stores / 'data/smoke/stage'
    done = command('embed', '--run', 'studio-metric', '--data', store, '--out', tmp_path / 'z.npz')
    assert done.returncode == 0, done.stderr
    assert 'trained on 48 px, this store has 32 px' in done.stderr
    done = command('export', 'studio-joint', '--to', 'torchscript', '--out', tmp_path / 'joint.pt')
    assert done.returncode == 0, done.stderr
    said = command('trained').stdout
    assert [name for name in trained_names() if name in said] == list(trained_names())
    assert max(map(len, said.splitlines())) <= 80 and json.dumps(said).isascii()
