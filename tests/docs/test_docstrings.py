"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import featureflow

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
MODULES = [
    found.name
    for found in pkgutil.walk_packages(featureflow.__path__, "featureflow.")
    if found.name[-2:] != "__"
]
#: modules that need a library that need not be there
NEED = {"featureflow.loaders.torch_batches": "torch"}


@pytest.mark.parametrize("name", ["featureflow", *MODULES])
def test_examples_are_true(name, tmp_path, monkeypatch):
    if name in NEED:
        pytest.importorskip(NEED[name])
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert failed == 0


def test_public_functions_have_examples():
    n_examples = sum(
        bool(test.examples)
        for name in MODULES
        if name not in NEED
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    )
    assert n_examples >= 20
