"""Configuration: an environment is a diff of base, every dataset is kept, every knob is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from house import PROJECT, SOURCE, modules
from kedro.config import OmegaConfigLoader
from kedro.io import CatalogConfigResolver
from pydantic import BaseModel

from relearn.parameters import Parameters
from relearn.pipeline_registry import register_pipelines

CONF = PROJECT / "conf"
ENVIRONMENTS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "local")
DIFFS = [name for name in ENVIRONMENTS if name != "base"]
FOLDERS = {
    "raw": "01_raw",
    "intermediate": "02_intermediate",
    "primary": "03_primary",
    "model input": "05_model_input",
    "models": "06_models",
    "model output": "07_model_output",
    "reporting": "08_reporting",
    "registry": "06_models",
}
"""Layer to folder, in the order of the road; what a report let through lies with the models."""

FREE_KEYS = {"compare.secondary"}
"""Blocks whose keys are names that a user gives."""

DUMPED = {"ConvnetConfig", "MlpConfig", "ResnetConfig", "TransformerConfig"}
"""Classes that reach the nets whole, as keyword arguments of the same names."""

every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
every_diff = pytest.mark.parametrize("name", DIFFS)


@cache
def loader(name: str) -> OmegaConfigLoader:
    """Return the project's own loader for one environment."""
    from kedro.framework.project import configure_project, settings

    configure_project("relearn")
    return OmegaConfigLoader(
        conf_source=str(CONF), env=name, **{**settings.CONFIG_LOADER_ARGS, "runtime_params": {}}
    )


def leaves(tree: Mapping[str, Any], root: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every leaf."""
    for key, value in tree.items():
        name = f"{root}.{key}" if root else str(key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, name)
        else:
            yield name, value


def written(name: str, pattern: str) -> dict[str, Any]:
    """Return the leaves that an environment's files write, before interpolation."""
    found: dict[str, Any] = {}
    for path in sorted((CONF / name).glob(pattern)):
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found |= dict(leaves(tree))
    return found


@every_environment
def test_every_environment_is_accepted_whole(name: str) -> None:
    Parameters.model_validate(loader(name)["parameters"])


@every_diff
def test_an_environment_names_no_key_that_base_lacks(name: str) -> None:
    base = written("base", "parameters*.yml")

    unknown = [
        key
        for key in written(name, "parameters*.yml")
        if key not in base and not any(key.startswith(f"{free}.") for free in FREE_KEYS)
    ]

    assert not unknown


@pytest.mark.parametrize("name", [name for name in DIFFS if name != "paper"])
def test_an_environment_repeats_nothing_of_base(name: str) -> None:
    """Paper is left out: it states the authors' settings whole, each with its source."""
    base, missing = written("base", "parameters*.yml"), object()

    repeated = [
        key
        for key, value in written(name, "parameters*.yml").items()
        if base.get(key, missing) == value
    ]

    assert not repeated


def test_every_environment_writes_into_a_folder_of_its_own() -> None:
    profiles = [loader(name)["globals"]["profile"] for name in ENVIRONMENTS]

    assert len(set(profiles)) == len(ENVIRONMENTS)


def test_globals_hold_the_profile_and_the_storage_root_alone() -> None:
    assert set(written("base", "globals*.yml")) == {"profile", "storage"}
    assert all(set(written(name, "globals*.yml")) == {"profile"} for name in DIFFS)


def entries() -> dict[str, Mapping[str, Any]]:
    """Return the catalog entry of every dataset that a registered pipeline names."""
    resolver = CatalogConfigResolver(loader("base")["catalog"])
    names = {n for pipeline in register_pipelines().values() for n in pipeline.datasets()}
    kept = {n for n in names if not n.startswith("params:") and n != "parameters"}
    return {name: resolver.resolve_pattern(name) for name in sorted(kept)}


def test_every_dataset_of_every_pipeline_is_kept_on_disk() -> None:
    found = entries()
    lost = [n for n, entry in found.items() if not entry or "Memory" in str(entry.get("type"))]

    assert len(found) > 20
    assert not lost


def test_every_entry_stands_in_a_known_layer_and_in_its_folder() -> None:
    for name, entry in entries().items():
        layer = entry["metadata"]["kedro-viz"]["layer"]
        folder = Path(entry["filepath"]).relative_to(loader("base")["globals"]["storage"]).parts[1]
        assert folder == FOLDERS[layer], f"{name} lies in {folder} and says {layer}"


def test_nothing_flows_back() -> None:
    """A node that wrote into an earlier layer would also make kedro-viz drop all layers."""
    where = {name: entry["metadata"]["kedro-viz"]["layer"] for name, entry in entries().items()}
    place = {name: list(FOLDERS).index(layer) for name, layer in where.items()}
    back = [
        f"{node.name}: {source} -> {target}"
        for pipeline in register_pipelines().values()
        for node in pipeline.nodes
        for source in node.inputs
        for target in node.outputs
        if source in place and place[source] > place[target]
    ]

    assert sorted(set(back)) == []


def test_every_dataset_is_written_by_one_node() -> None:
    pipelines = register_pipelines()
    writers: dict[str, set[str]] = {}
    for name, pipeline in pipelines.items():
        for node in pipeline.nodes if name != "__default__" else ():
            for output in node.outputs:
                writers.setdefault(output, set()).add(node.name)

    assert {name: who for name, who in writers.items() if len(who) > 1} == {}


def test_every_method_and_pipeline_is_registered_under_its_own_name() -> None:
    pipelines = register_pipelines()
    folders = {path.parent.name for path in (SOURCE / "pipelines").glob("*/pipeline.py")}

    assert folders <= set(pipelines)
    for method in (p.parent.name for p in (SOURCE / "methods").glob("*/config.py")):
        assert {node.namespace for node in pipelines[method].nodes} == {method}


def blocks(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a configuration class and all classes nested in it."""
    yield kind
    for field in kind.model_fields.values():
        parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from blocks(part)


@cache
def words_read() -> set[str]:
    """Return every attribute that the source reads and every word that it looks up by text."""
    found: set[str] = set()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@cache
def arguments_of_nets() -> set[str]:
    """Return the names of all arguments of the nets' constructors."""
    found: set[str] = set()
    for module in modules(SOURCE / "models"):
        for function in module.functions():
            found |= {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
    return found


@pytest.mark.parametrize(
    "block", sorted(set(blocks(Parameters)), key=lambda b: b.__name__), ids=lambda b: b.__name__
)
def test_every_knob_is_read_somewhere(block: type[BaseModel]) -> None:
    reads = arguments_of_nets() if block.__name__ in DUMPED else words_read()

    assert [name for name in block.model_fields if name not in reads] == []


def test_every_knob_of_base_has_a_comment_or_a_meaning() -> None:
    for block in set(blocks(Parameters)):
        told = " ".join(kind.__doc__ or "" for kind in block.__mro__)
        untold = [name for name in block.model_fields if f"{name}:" not in told]
        assert not untold, f"{block.__name__}: {untold}"
