"""Jobs: a notebook that is run leaves results, or says why not."""

from dataclasses import replace

from experiments_fixture import analysis

from mvssl.study.batch import Study
from mvssl.study.jobs import run_job


def test_a_notebook_that_leaves_nothing_has_failed(root, made_up):
    analysis(made_up, '4_embedding_space', 'run.finish = lambda metrics: None')
    job = replace(
        Study('smoke', out=root).analysis('4_embedding_space'),
        parameters=Study('smoke', out=root).parameters_for('4_embedding_space'),
    )
    assert 'its last cell does not call run.finish' in run_job(job).error
