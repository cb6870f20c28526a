"""The numbers of the paper: data alone."""

import ast
from pathlib import Path

from mvssl.study import paper, reproduce


def test_the_papers_numbers_are_data_alone_and_stay_where_they_were():
    assert reproduce.PAPER is paper.PAPER and paper.__all__ == ['PAPER']
    kinds = {type(node) for node in ast.parse(Path(paper.__file__).read_text(encoding='utf-8')).body}
    assert kinds == {ast.Expr, ast.Assign}, 'a docstring and values'
