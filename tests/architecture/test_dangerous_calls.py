"""Nothing in the package executes data: no pickle, eval, shell or object arrays."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import featureflow

PACKAGE = Path(featureflow.__file__).parent
FORBIDDEN = {
    "eval": "it runs text as code",
    "exec": "it runs text as code",
    "compile": "it makes code of text",
    "__import__": "use importlib, in a project that allows Python",
    "os.system": "it starts a shell",
    "os.popen": "it starts a shell",
    "pickle.load": "a pickle runs code when it is read",
    "pickle.loads": "a pickle runs code when it is read",
    "cloudpickle.load": "a pickle runs code when it is read",
    "cloudpickle.loads": "a pickle runs code when it is read",
    "marshal.loads": "it reads code",
    "yaml.load": "use the spec's own reader, with its caps",
    "yaml.unsafe_load": "it makes any object",
    "yaml.full_load": "it makes many objects",
    "tempfile.mktemp": "another process can take the name",
}

#: Results that workers tell their driver are as trusted as those that Dask itself unpickles for it.
ALLOWED = {"execute/clusters/telling.py": {"pickle.loads"}}


def problems(source: str, allowed: frozenset[str] | set[str] = frozenset()) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        # a subclass of SafeLoader is safe; the reader's tests show that it refuses tags
        safe_yaml = called == "yaml.load" and any(
            k.arg == "Loader" and ast.unparse(k.value).endswith("SafeLoader") for k in node.keywords
        )
        if called in FORBIDDEN and called not in allowed and not safe_yaml:
            found.append(f"{node.lineno}: {called}: {FORBIDDEN[called]}")
        for keyword in node.keywords:
            true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            if keyword.arg in {"shell", "allow_pickle"} and true:
                found.append(f"{node.lineno}: {called}({keyword.arg}=True)")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_dangerous_calls(path):
    assert problems(path.read_text(), ALLOWED.get(path.relative_to(PACKAGE).as_posix(), set())) == []


@pytest.mark.parametrize(
    "planted",
    [
        "eval('1')",
        "pickle.loads(b)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_finds_planted_calls(planted):
    assert len(problems(f"def f():\n    return {planted}\n")) == 1


def test_does_not_cry_wolf():
    assert problems("re.compile('a'); np.load(path); subprocess.run(['ls'], shell=False)") == []
