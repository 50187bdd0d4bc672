"""The laws of the house that no linter knows: one name in five places, size, words, floors."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from house import (
    METHODS,
    PROJECT,
    SOURCE,
    Module,
    arguments,
    body_lines,
    kept_files,
    modules,
    nesting,
)

MODULES = modules()
RUNS_CODE = {
    *(f"{kind}.{call}" for kind in ("pickle", "dill", "cloudpickle") for call in ("load", "loads")),
    *("torch.export.load", "torch.jit.load", "joblib.load", "yaml.load", "shelve.open"),
    *("eval", "exec"),
}
FORBIDDEN_FILES = {"utils", "helpers", "common", "base", "manager", "engine", "misc"}


def by_name(module: Module) -> str:
    return module.name


every_module = pytest.mark.parametrize("module", MODULES, ids=by_name)
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@pytest.mark.parametrize(
    "place",
    [
        "src/relearn/methods/{}/config.py",
        "src/relearn/pipelines/{}/pipeline.py",
        "src/relearn/pipelines/{}/nodes.py",
        "conf/base/parameters_{}.yml",
        "docs/methods/{}.md",
        "docs/claims/{}.yml",
        "tests/methods/{}",
    ],
)
def test_a_method_stands_in_all_its_places(method: str, place: str) -> None:
    assert (PROJECT / place.format(method)).exists()


def test_no_page_or_card_speaks_of_a_method_that_is_not_there() -> None:
    pages = {path.stem for path in (PROJECT / "docs" / "methods").glob("*.md")}
    cards = {path.stem for path in (PROJECT / "docs" / "claims").glob("*.yml")}

    assert pages == cards == set(METHODS)


@every_method
def test_a_method_page_has_the_shared_headings_in_order(method: str) -> None:
    page = (PROJECT / "docs" / "methods" / f"{method}.md").read_text(encoding="utf-8")

    found = re.findall(r"^## (.+)$", page, re.MULTILINE)

    assert found == [
        "Choose it when",
        "Idea",
        "Algorithm",
        "Settings",
        "Use it as a library",
        "Cost",
        "Result",
        "Caveats",
        "Differences from the official code",
        "References",
    ]


@every_method
def test_every_public_name_of_a_method_is_on_its_page(method: str) -> None:
    init = (SOURCE / "methods" / method / "__init__.py").read_text(encoding="utf-8")
    page = (PROJECT / "docs" / "methods" / f"{method}.md").read_text(encoding="utf-8")
    names = {n.value for n in ast.walk(_homes(init)) if isinstance(n, ast.Constant)} & _keys(init)

    missing = sorted(name for name in names if f"`{name}" not in page)

    assert names
    assert not missing


def _homes(text: str) -> ast.Dict:
    return next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Dict))


def _keys(text: str) -> set[str]:
    return {str(key.value) for key in _homes(text).keys if isinstance(key, ast.Constant)}


@every_module
def test_no_file_is_longer_than_300_lines(module: Module) -> None:
    assert module.lines <= 300


@every_module
def test_no_function_is_too_long_too_deep_or_takes_too_much(module: Module) -> None:
    for function in module.functions():
        assert body_lines(function) <= 50, f"{function.name}: {body_lines(function)} lines"
        assert nesting(function) <= 3, f"{function.name}: {nesting(function)} blocks deep"
        excused = "noqa: PLR0913 - " in module.text.splitlines()[function.lineno - 1]
        assert len(arguments(function)) <= 8 or excused, f"{function.name}: too many arguments"


def test_long_lists_of_arguments_stay_rare() -> None:
    excused = [module.name for module in MODULES if "noqa: PLR0913 - " in module.text]

    assert len(excused) <= 6  # docs/decisions/0009: keyword-only, with a reason beside it


def test_functions_and_files_are_short_on_the_whole() -> None:
    lengths = sorted(body_lines(f) for module in MODULES for f in module.functions())

    assert statistics.median(lengths) <= 12
    assert lengths[int(0.9 * len(lengths))] <= 30
    assert statistics.median(module.lines for module in MODULES) <= 150


@every_module
def test_no_file_has_a_name_that_says_nothing(module: Module) -> None:
    assert module.path.stem not in FORBIDDEN_FILES


@every_module
def test_every_public_function_says_what_it_takes_gives_and_raises(module: Module) -> None:
    for function in module.public_functions():
        told = ast.get_docstring(function) or ""
        assert told, f"{function.name} has no docstring"
        taken = arguments(function)
        missing = [name for name in taken if f"    {name}: " not in told]
        assert len(taken) < 2 or not missing, f"{function.name}: Args lacks {missing}"
        if any(isinstance(n, ast.Raise) and n.exc is not None for n in ast.walk(function)):
            assert "Raises:" in told, f"{function.name} does not say what it raises"
        assert _gives_nothing(function) or _says_what_it_gives(told), f"{function.name}: Returns"


def _gives_nothing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    result = function.returns
    nothing = isinstance(result, ast.Constant) and result.value is None
    decorated = any("contextmanager" in ast.unparse(d) for d in function.decorator_list)
    return result is None or nothing or decorated


def _says_what_it_gives(told: str) -> bool:
    return re.search(r"\b(returns?|yields?|gives?|tells?)\b", told, re.IGNORECASE) is not None


@every_module
def test_nothing_is_printed_stubbed_or_swallowed(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "a bare except"
            assert not all(isinstance(n, ast.Pass) for n in node.body), "a silent except"
    stubs = ("NotImplemented" + "Error", "TO" + "DO", "FIX" + "ME")
    assert not [word for word in stubs if word in module.text]


@every_module
def test_nothing_is_loaded_that_can_run_code(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            call, said = ast.unparse(node.func), ast.unparse(node)
            assert call not in RUNS_CODE
            assert not call.endswith("Unpickler")
            assert call != "torch.load" or "weights_only=True" in said
            assert "allow_pickle=True" not in said


@pytest.mark.parametrize("path", modules(PROJECT / "tests"), ids=by_name)
def test_no_test_is_skipped_or_expected_to_fail(path: Module) -> None:
    marks = {"pytest.mark." + "skip", "pytest.mark." + "xfail", "pytest." + "skip("}

    assert not [mark for mark in marks if mark in path.text]


def test_no_kept_file_names_this_machine_or_a_package_index() -> None:
    places = [f"{PROJECT.parent}/", f"{Path.home()}/"]
    address = re.compile(r"(?:index-url|find-" + r"links)[ =]\S|https?://\S*/sim" + "ple")
    faults = []
    for path in kept_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        named = [place for place in places if len(place) > 2 and place in text]
        faults += [f"{path.name}: {found}" for found in [*named, *address.findall(text)]]

    assert not faults


def test_the_lock_holds_a_hash_for_every_package() -> None:
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.split(r"\n(?=[a-z0-9])", lock)

    pinned = [text for text in packages if re.match(r"[a-z0-9._-]+(\[.*\])?==", text)]

    assert len(pinned) > 50
    assert all("--hash=sha256:" in text for text in pinned)


def test_the_floors_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_configuration_and_registry_are_read_without_torch_or_mlflow() -> None:
    configs = sorted(m.name for m in MODULES if m.path.name == "config.py")
    names = [name.removeprefix("src/").removesuffix(".py").replace("/", ".") for name in configs]
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {[*names, 'relearn.parameters', 'relearn.pipeline_registry']!r}:",
            "    importlib.import_module(name)",
            "heavy = {'torch', 'torchvision', 'timm', 'mlflow', 'pandas', 'matplotlib'}",
            "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)",
        ]
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
