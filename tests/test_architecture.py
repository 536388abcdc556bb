"""The shape of the code, held by tests: import contracts, sizes, thin flows, names that shadow nothing."""

import ast
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("domain", "evaluation", "training", "registry", "samples", "flows")
MAX_MODULE = 300
MAX_FUNCTION = 60
NOT_IN_A_FLOW = (
    ast.For,
    ast.While,
    ast.Try,
    ast.BinOp,
    ast.Compare,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.ClassDef,
)


def modules() -> list[Path]:
    found = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return [path for path in found if "migrations" not in path.parts]  # a migration is history, written once


def flow_bodies(tree: ast.Module) -> list[ast.FunctionDef]:
    def is_flow(decorator: ast.expr) -> bool:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        return getattr(named, "id", getattr(named, "attr", "")) == "flow"

    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return [function for function in functions if any(is_flow(each) for each in function.decorator_list)]


def logic_in_flows(tree: ast.Module) -> list[str]:
    return [
        f"{function.name} line {node.lineno}: {type(node).__name__}"
        for function in flow_bodies(tree)
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, NOT_IN_A_FLOW)
    ]


def test_no_module_is_longer_than_300_lines():
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in long.items() if lines > MAX_MODULE} == {}


def test_no_function_is_longer_than_60_lines():
    long = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


def test_flows_are_straight_lines():
    found = {
        str(path.relative_to(ROOT)): logic_in_flows(ast.parse(path.read_text()))
        for path in sorted((ROOT / "flows").rglob("*.py"))
    }
    assert {name: logic for name, logic in found.items() if logic} == {}


@pytest.mark.parametrize(
    "body",
    [
        "for x in y: pass",
        "a = b + 1",
        "if a > b: pass",
        "try:\n        pass\n    except E:\n        pass",
        "[x for x in y]",
    ],
)
def test_logic_in_a_flow_would_be_found(body):
    assert logic_in_flows(ast.parse(f"@flow(name='x')\ndef x():\n    {body}\n"))


def test_a_flow_may_branch_on_a_decision():
    assert not logic_in_flows(ast.parse("@flow\ndef x():\n    if decision.harden:\n        harden(decision)\n"))


def test_no_file_bears_the_name_of_a_package():
    installed = {path.name for path in Path(sysconfig.get_paths()["purelib"]).iterdir() if path.is_dir()}
    taken = (installed | set(sys.stdlib_module_names) | set(ROOMS)) - {"tests"}
    shadowing = [
        str(path.relative_to(ROOT))
        for path in modules()
        if len(path.relative_to(ROOT).parts) == 2 and path.stem in taken and path.stem != "__init__"
    ]
    assert shadowing == []


def test_every_test_folder_is_a_package():
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_room_is_imported_from_this_checkout():
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        assert spec is not None
        assert Path(spec.origin).is_relative_to(ROOT)


@pytest.mark.slow
def test_the_import_contracts_hold():
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_constraints_name_versions_of_registries_only():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 150
    assert [line for line in lines if "@" in line or "://" in line or "+" in line or "==" not in line] == []
