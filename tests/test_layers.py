"""The five rules of the house, kept by reading the source: arrows point down, and each library stays in its rooms."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

# Low to high.  A name stands for `adlib/<name>.py`; a module that is not listed fails the test until it has a floor.
FLOORS = [
    {"contract"},
    {"maps", "threads", "wording", "remembered", "regions", "modes"},
    {
        "images", "metrics", "thresholds", "projections", "plots", "study_plots", "trial_plots", "overlays", "store",
        "pixel_counts", "alt_text", "intervals", "lines", "rules", "markup", "svg",
    },
    {
        "frames", "machine", "weights", "states", "networks", "folding", "offline", "features", "arrays", "items", "layouts",
        "sources",
        "intake", "curation", "datasets", "doctor", "diagnoses", "suspects", "traits", "samples", "_sample_*",
    },
    {"methods._*"},
    {"methods.*"},
    {"registry"},
    {"batches", "results", "vetting", "decisions", "levels", "doubts", "changes", "learning"},
    {"request", "gaussian_study"},
    {"inspection", "fitting", "evaluation"},
    {"workflow"},
    {"why", "learning_curve", "directions", "studies", "search", "report", "report_*", "queueing", "worker", "jobs", "exchange",
     "experiments", "class_sets", "holdout", "trials", "trial_results", "trial_parts", "trial_time",
     "trial_work", "experiment_command", "terminal", "commands", "study_commands"},
    {"__main__"},
]  # fmt: skip
TORCH_ROOMS = {
    "weights", "features", "networks", "folding", "offline", "states", "threads", "maps", "store", "machine", "batches",
    "fitting", "inspection", "gaussian_study", "remembered", "experiments",
}  # and methods  # fmt: skip
PAGES_MAY_CALL = {
    "contract", "workflow", "request", "batches", "results", "decisions", "jobs", "worker", "exchange", "report", "search",
    "store", "intake", "sources", "items", "arrays", "layouts", "datasets", "samples", "images", "frames", "registry",
    "weights", "machine", "plots", "alt_text", "overlays", "projections", "thresholds", "metrics", "rules", "levels", "doubts",
    "wording", "changes", "why", "studies", "study_plots",
    "regions", "curation", "doctor", "learning", "trials", "trial_results", "trial_plots", "trial_time",
    "class_sets",
}  # fmt: skip

CORE = sorted(path for path in (ROOT / "adlib").rglob("*.py") if path.name != "__init__.py")
PAGES = [ROOT / "streamlit_app.py", *sorted((ROOT / "pages").glob("*.py"))]
PARTS = sorted((ROOT / "pages" / "parts").glob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "adlib").with_suffix("").parts)


def floor_of(name: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if name in rooms:
            return height
    for height, rooms in enumerate(FLOORS):
        for room in rooms:
            if room.endswith("*") and name.startswith(room[:-1]):
                return height
    raise AssertionError(f"adlib/{name.replace('.', '/')}.py has no floor in tests/test_layers.py")


@functools.cache
def imports(path: Path, *, at_top_only: bool = False) -> set[str]:
    """Modules that a file imports, `adlib.x` for each name of `from adlib import x`; type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if at_top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                deeper = child.module in ("adlib", "adlib.methods", "pages", "pages.parts")
                found.update(f"{child.module}.{alias.name}" if deeper else child.module for alias in child.names)
            visit(child)

    visit(tree)
    return found


def of_adlib(path: Path) -> set[str]:
    return {name.removeprefix("adlib.") for name in imports(path) if name.startswith("adlib.")}


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_an_arrow_points_to_a_lower_floor_or_stays_on_its_own(path):
    here = floor_of(name_of(path))
    higher = {name for name in of_adlib(path) if floor_of(name) > here}
    assert not higher, f"{name_of(path)} imports from a higher floor: {sorted(higher)}"


def test_there_is_no_circle_of_files():
    arrows = {name_of(path): of_adlib(path) for path in CORE}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way[way.index(name) :], name))}"
        if name in done:
            return
        for further in arrows.get(name, ()):
            walk(further, (*way, name))
        done.add(name)

    for name in arrows:
        walk(name, ())


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_streamlit(path):
    assert not {name for name in imports(path) if name.split(".")[0] == "streamlit"}


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_torch_stays_in_its_rooms(path):
    uses = {name.split(".")[0] for name in imports(path)} & {"torch", "timm", "torchvision"}
    assert not uses or name_of(path) in TORCH_ROOMS or name_of(path).startswith("methods."), f"{name_of(path)}: {uses}"


@pytest.mark.parametrize("path", [p for p in CORE if name_of(p).startswith("methods.")], ids=name_of)
def test_a_method_imports_no_other_method(path):
    others = {n for n in of_adlib(path) if n.startswith("methods.") and not n.startswith("methods._")}
    assert not others


@pytest.mark.parametrize("path", [*PAGES, *PARTS], ids=lambda p: p.name)
def test_pages_call_verbs_and_never_methods_or_features(path):
    strangers = {name.split(".")[0] for name in of_adlib(path)} - PAGES_MAY_CALL
    assert not strangers


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_page_begins_with_the_page_guard(path):
    body = [
        n for n in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(n, ast.Import | ast.ImportFrom)
    ]
    body = body[1:] if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else body
    assert ast.unparse(body[0]).startswith("shell.page("), ast.unparse(body[0])


def test_naming_the_verbs_does_not_wait_for_torch():
    """A page may import all of these before anything is computed: its first draw must not cost seconds of imports."""
    light = [name_of(p) for p in CORE if name_of(p) in PAGES_MAY_CALL]
    code = "import sys\n" + "".join(f"import adlib.{name}\n" for name in light)
    code += "heavy = {'torch', 'timm', 'sklearn', 'scipy', 'plotly'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


FORBIDDEN = (
    "allow_pickle=True",
    "weights_only=False",
    "extractall",
    "unsafe_allow_html=True",
    "pickle.load",
    "joblib.load",
)


@pytest.mark.parametrize("path", [*CORE, *PAGES, *PARTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_extracted_or_drawn_as_html(path):
    text = path.read_text(encoding="utf-8")
    assert not [word for word in FORBIDDEN if word in text]
