"""The examples in the kernels' docstrings: each prints what it says, and every public function has one."""

import doctest
import inspect
from importlib import import_module
from pkgutil import iter_modules

import pytest

from tinystar_np import kernels

MODULES = [import_module(f"{kernels.__name__}.{module.name}") for module in iter_modules(kernels.__path__)]
NAMES = [module.__name__.rpartition(".")[2] for module in MODULES]


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_examples_print_what_they_say(module: object) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    for examples in doctest.DocTestFinder().find(module):
        runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)
    assert runner.tries, "there is no example"


def computes(value: object) -> bool:
    """Say whether it is a function, or a class that is more than a tuple with names or a common part."""
    if inspect.isclass(value):
        return not issubclass(value, tuple) and not inspect.isabstract(value)
    return callable(value)


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_every_public_function_has_an_example(module: object) -> None:
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    public = [value for value in own if computes(value) and not value.__name__.startswith("_")]
    assert not [value.__name__ for value in public if ">>> " not in (value.__doc__ or "")]
