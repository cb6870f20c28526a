"""Guards of mvssl.show.pages: hostile values stay text, nothing is loaded, script and style are linted."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import mvssl.show.pages
from mvssl.show.pages import for_script, raw, render

TEMPLATES = Path(mvssl.show.pages.__file__).parent / 'templates'
BIOME = Path(sys.executable).parent / 'biome'
EVIL = '</style></script><script>alert(1)</script>" onload="x" {{ 7*7 }} & \u2028'


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def search_page(text):
    return render(
        'search.html', about=text, label=text, rows=[[dict(kind='found', lines=[text, text], picture='data:,')]]
    )


def atlas_page(text):
    return render(
        'atlas.html', title=text, label=text, about=text, facts={text: text}, colour_by={'subject': text}, bokeh='',
        plot={text: text}, page=dict(name=text),
    )  # fmt: skip


@pytest.mark.parametrize('page', [search_page, atlas_page])
def test_what_a_user_says_is_text(page):
    harmless, hostile = Reader(page('S1')), Reader(page(EVIL))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert not any('onload' in attrs for _, attrs in hostile.tags)
    assert hostile.text.count('{{ 7*7 }}') >= 2 and '<script>alert(1)</script>' in hostile.text


@pytest.mark.parametrize('page', [search_page, atlas_page])
def test_nothing_is_loaded_and_the_page_forbids_it(page):
    text = page('S1')
    for tag, attrs in Reader(text).tags:
        assert not {'href', 'src'} & set(attrs) or attrs['src'].startswith('data:'), (tag, attrs)
    assert "default-src 'none'" in text and not re.search(r'url\(|@import|https?:', text)


def test_json_in_a_page_is_read_back():
    value = {'names': [EVIL, '</script>'], 'n': [1, 2.5, None, True]}
    text = for_script(value)
    assert '<' not in text and '\u2028' not in text and json.loads(text) == value


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match='rows'):
        render('search.html', about='', label='')


def test_one_style_sheet_for_all_pages():
    assert [path.name for path in TEMPLATES.glob('*.css')] == ['page.css']
    for path in TEMPLATES.glob('*.html'):
        text = path.read_text(encoding='utf-8')
        is_part = path.name in ('base.html', 'table.html')
        assert is_part or "{% extends 'base.html' %}" in text
        assert ' style=' not in text and ('<style>' in text) == (path.name == 'base.html')
    assert raw('page.css') in search_page('S1')


def lint(*files):
    return subprocess.run([BIOME, 'lint', '--error-on-warnings', *files], capture_output=True, text=True)


def test_script_and_style_are_linted():
    done = lint(*TEMPLATES.glob('*.js'), *TEMPLATES.glob('*.css'))
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_sees_a_mistake(tmp_path):
    (tmp_path / 'a.js').write_text("const unused = 1\nif (x = 2) y()\n")
    (tmp_path / 'a.css').write_text('p { colour: red }\n')
    for name, rule in (('a.js', 'noAssignInExpressions'), ('a.css', 'noUnknownProperty')):
        done = lint(tmp_path / name)
        assert done.returncode and rule in done.stdout + done.stderr
