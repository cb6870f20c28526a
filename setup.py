"""Packaging from settings.ini, which nbdev reads too: one place for names, versions and requirements."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ini = ConfigParser(delimiters='=')
ini.read(HERE / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
EXTRAS = ('data', 'viz', 'cluster', 'search', 'notebooks', 'export', 'docs', 'dev')
extras = {name: cfg[f'{name}_requirements'].split() for name in EXTRAS}
extras['all'] = sorted({r for rs in extras.values() for r in rs})

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=cfg['keywords'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=['mvssl', 'mvssl.*']),
    package_data={'mvssl': ['py.typed', 'show/templates/*', 'weights/*']},
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={'console_scripts': ['mvssl = mvssl.cli:main']},
    zip_safe=False,
)
