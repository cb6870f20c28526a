"""Jobs: a notebook that is run leaves results, or says why not."""

from dataclasses import replace

import pytest
from experiments_fixture import analysis

from mvssl.study.batch import Study
from mvssl.study import jobs as module
from mvssl.study.jobs import run_job, workers


@pytest.mark.parametrize(
    'told, at_a_time, threads',
    [
        ('', 2, 4),
        ('', 1, 8),
        ('', 16, 1),
        ('1', 1, 1),
        ('3', 2, 3),
        ('6', 2, 4),
        ('2,1', 1, 2),
        ('0', 1, 8),
        ('all', 1, 8),
    ],
)
def test_as_many_threads_as_cores_allow_and_the_environment(monkeypatch, told, at_a_time, threads):
    "Eight cores; what OMP_NUM_THREADS says, if it is a number or a list of numbers by level."
    monkeypatch.setattr(module, 'cores', lambda: 8)
    monkeypatch.setenv('OMP_NUM_THREADS', told)
    with workers(jobs=at_a_time) as crew:
        assert (crew.n, crew.threads) == (at_a_time, threads)


def test_a_notebook_that_leaves_nothing_has_failed(root, made_up):
    analysis(made_up, '4_embedding_space', 'run.finish = lambda metrics: None')
    job = replace(
        Study('smoke', out=root).analysis('4_embedding_space'),
        parameters=Study('smoke', out=root).parameters_for('4_embedding_space'),
    )
    assert 'its last cell does not call run.finish' in run_job(job).error
