"""Process settings: the CPU switch, threads, imports."""

import subprocess
import sys

import pytest
from conftest import ROOT

from paddleskel.runtime import available_cores, cpu_threads, has_bfloat16, mkl_cpu_type


def cpuinfo(vendor, flags):
    return f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpuinfo("AuthenticAMD", "avx2 fma avx512f avx512dq avx512bw avx512vl"), "7"),
        (cpuinfo("AuthenticAMD", "avx2 fma avx512f"), "5"),
        (cpuinfo("AuthenticAMD", "avx2 fma"), "5"),
        (cpuinfo("AuthenticAMD", "sse4_2"), None),
        (cpuinfo("GenuineIntel", "avx2 fma avx512f avx512dq avx512bw avx512vl"), None),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", None),  # an Arm machine
        ("", None),
    ],
)
def test_mkl_is_told_of_processors_it_does_not_know(text, expected):
    assert mkl_cpu_type(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpuinfo("AuthenticAMD", "avx2 avx512f avx512_bf16"), True),
        (cpuinfo("GenuineIntel", "avx512f amx_bf16"), True),
        (cpuinfo("GenuineIntel", "avx2 fma avx512f"), False),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", False),
        ("", False),
    ],
)
def test_bfloat16_is_found_in_the_processors_flags(text, expected):
    assert has_bfloat16(text) == expected


def python(code, **env):
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_environment_is_set_on_import_but_a_users_value_stays():
    out, _ = python(
        "import os, paddleskel; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_DEBUG_CPU_TYPE'])",
        OMP_NUM_THREADS="1",
        MKL_DEBUG_CPU_TYPE="3",
    )
    assert out.split() == ["1", "3"]


def test_threads_are_shared_among_local_processes():
    code = "import os; os.environ.pop('OMP_NUM_THREADS', None); import paddleskel; print(os.environ['OMP_NUM_THREADS'])"
    out, _ = python(code, PADDLE_LOCAL_SIZE=str(available_cores()))
    assert out.strip() == "1"


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), ("3,2", 3), (" 4 ", 4), ("", None), ("0", None), ("many", None)]
)
def test_the_number_of_threads_is_the_users_or_all_cores(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cpu_threads() == (threads or available_cores())


def test_data_and_skeleton_never_import_paddle():
    code = (
        "import sys, pkgutil, importlib, paddleskel.data, paddleskel.skeleton\n"
        "for package in (paddleskel.data, paddleskel.skeleton):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('paddle', 'torch', 'matplotlib')))\n"
    )
    out, _ = python(code)
    assert out.strip() == "[]"


def test_importing_networks_says_nothing():
    _, err = python("import paddleskel.models.recognizer")
    assert err == ""


def test_imports_run_downwards():
    """benchmark -> deploy -> engine -> convert, report, results -> models, data -> nn, skeleton -> config, registry."""
    import ast

    levels = {
        0: ["errors", "registry", "runtime", "config", "files", "memory", "metrics"],
        1: ["skeleton", "nn"],
        2: ["data", "models"],
        3: ["convert", "report", "results", "ensemble"],
        4: ["engine"],
        5: ["deploy"],
        6: ["benchmark"],
    }
    level = {name: number for number, names in levels.items() for name in names}
    for path in (ROOT / "paddleskel").rglob("*.py"):
        part = path.relative_to(ROOT / "paddleskel").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paddleskel."):
                target = node.module.split(".")[1]
                assert part == "__init__" or level[target] <= level[part], f"{path} imports {node.module}"
