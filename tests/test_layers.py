"""Imports point one way: from commands down to errors, inside functions too."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

LAYERS = """
errors quiet precision rules chips refinement_constants
files
pixels prng geometry
config
latents losses refinement
models
graph
interop
data
evaluation
report
checkpoints forward runtime hub
segmenter packed
parts
loading
export
training
fewshot
jobs
studies
studio
cli
"""
"""From the lowest to the highest; names in one line do not import each other."""

RANKS = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, known):
    """Names of the project's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return {name for name in found if name.split(".")[0] in ("ganseg_jax", "configs")}


def graph():
    paths = {dotted(path): path for path in modules("ganseg_jax")}
    return {name: imports(path, paths) & set(paths) for name, path in paths.items()}


def layer(name):
    return name.split(".")[1]


def test_every_module_has_a_layer():
    names = {layer(name) for name in graph() if "." in name}
    assert names == set(RANKS)


def test_no_import_climbs():
    climbs = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if "." in name and "." in other and layer(name) != layer(other)
        if RANKS[layer(other)] >= RANKS[layer(name)]
    ]
    assert not climbs


def test_no_circles():
    edges, done = graph(), set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, [*way, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])


def test_configs_need_only_the_schema():
    for path in modules("configs"):
        for name in imports(path, {}):
            assert name.startswith(("ganseg_jax.config", "configs")), f"{path.name}: {name}"


def test_loading_reaches_no_code_that_trains_or_prepares():
    edges, reached, left = graph(), set(), ["ganseg_jax.loading"]
    while left:
        if (name := left.pop()) not in reached:
            reached.add(name)
            left += edges[name]
    layers = {layer(name) for name in reached if "." in name}
    assert not layers & {"training", "fewshot", "jobs", "studies", "data", "losses"}
    # Nothing of the rest imports what only trainings need, wherever in it.
    heavy = ("optax", "grain", "tensorflow_datasets", "tensorboardX", "sklearn", "scipy")
    for name in reached:
        path = ROOT / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith(heavy) for alias in node.names), name
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(heavy), name
