"""Jobs that start from a process which has imported torch: do they differ from others?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from faultline.base.fingerprint import PACKAGE
from faultline.snake import launch, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="is for Linux only")

HEAD = "import os, sys, time\n"
OTHER_BUILD = """
import runpy, sys
sys.argv[:] = sys.argv[1:]
sys.version += " of another build"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", autouse=True)
def process():
    """The warm process, of this process."""
    assert warm.ADDRESS not in os.environ
    process, pipe = warm.start()
    yield psutil.Process(process.pid)
    os.close(pipe)  # as when the one that started it ends
    assert process.wait(60) == -signal.SIGKILL
    assert not Path(os.environ.pop(warm.ADDRESS)).parent.exists()


@pytest.fixture
def script(tmp_path):
    """Starts a script of these lines as a job."""

    def begin(lines, *arguments, python=(), address=None, **environment):
        file, address = tmp_path / "script.py", address or os.environ[warm.ADDRESS]
        file.write_text(HEAD + lines, encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, *python, warm.LAUNCH, address, "log", file.name, *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def ended(begun):
    out, err = begun.communicate()
    return begun.returncode, out, err


def until(holds):
    while not (found := holds()):
        time.sleep(0.01)
    return found


def test_torch_is_there_and_nothing_of_ours(script):
    lines = (
        "ours = [name for name in sys.modules if name.split('.')[0] == 'faultline']\n"
        "print('torch' in sys.modules, ours)"
    )
    assert ended(script(lines))[1] == "True []\n"


def test_folder_arguments_environment_and_streams_are_the_scripts_own(script, tmp_path):
    lines = (
        "print(os.getcwd(), *sys.argv, os.environ['WORD'], sys.path[0])\n"
        "print('aside', file=sys.stderr)\nprint(sys.stdin.read() == '')"
    )
    code, out, err = ended(script(lines, "one", "two", WORD="said"))
    said = f"{tmp_path} {tmp_path}/script.py one two said {tmp_path}\nTrue\n"
    assert (code, out, err) == (0, said, "aside\n")


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("raise ValueError('wrong')", 1, "ValueError: wrong"),
    ],
    ids=["status", "plain", "error"],
)
def test_how_it_ends_is_passed_on(script, lines, code, said):
    found, _, err = ended(script(lines))
    assert found == code and said in err


def test_of_one_that_is_killed_its_log_says_so(script, tmp_path):
    (tmp_path / "log").write_text("begun\n", encoding="utf-8")
    assert ended(script("os.kill(os.getpid(), 9)")) == (137, "", "")
    begun, said = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert begun == "begun" and said.startswith("error: killed, most likely for want of memory")


@pytest.mark.parametrize("number", launch.STOPPING)
def test_signals_are_passed_on(script, number):
    lines = (
        f"import signal\nsignal.signal({int(number)}, lambda *_: sys.exit('stopped'))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    begun = script(lines)
    assert begun.stdout.readline() == "ready\n"
    begun.send_signal(number)
    assert ended(begun)[0] == 1


def test_a_signal_ends_one_that_waits_for_torch(script, process):
    process.suspend()
    try:
        begun = script("print('ran')")
        waiting = psutil.Process(begun.pid)
        until(lambda: waiting.net_connections("unix"))
        begun.terminate()
        assert begun.wait(60) == -signal.SIGTERM
    finally:
        process.resume()
    assert begun.communicate() == ("", "")


def test_a_script_that_a_signal_ends_was_not_killed_for_want_of_memory(script, tmp_path):
    begun = script("print('ready', flush=True)\ntime.sleep(600)")
    assert begun.stdout.readline() == "ready\n"
    begun.terminate()
    assert ended(begun) == (137, "", "")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "error: stopped\n"


def test_a_killed_script_leaves_no_process_behind(script):
    begun = script("print(os.getpid(), flush=True)\ntime.sleep(600)")
    copy = psutil.Process(int(begun.stdout.readline()))
    assert copy.pid != begun.pid
    begun.kill()
    until(lambda: not copy.is_running() or copy.status() == psutil.STATUS_ZOMBIE)
    begun.communicate()


def test_code_that_was_edited_meanwhile_is_what_runs(script, tmp_path):
    module = tmp_path / "mine.py"
    for word in ("first", "second"):
        module.write_text(f"WORD = {word!r}\n" + "#" * len(word), encoding="utf-8")
        assert ended(script("import mine\nprint(mine.WORD)"))[1] == f"{word}\n"


def test_jobs_that_seed_nothing_draw_other_numbers(script):
    lines = (
        "import random, numpy, torch\n"
        "print(random.random())\nprint(numpy.random.rand())\nprint(torch.rand(()).item())"
    )
    one, other = (ended(script(lines))[1].split() for _ in range(2))
    assert len(one) == 3 and not set(one) & set(other)


def test_without_such_a_process_the_script_runs_by_itself(script, tmp_path):
    begun = script("print(os.getpid())", address=str(tmp_path / "none"))
    assert ended(begun) == (0, f"{begun.pid}\n", "")


def test_another_python_runs_by_itself(script):
    begun = script("print(os.getpid())", python=["-c", OTHER_BUILD])
    assert ended(begun)[1] == f"{begun.pid}\n"


def test_it_ends_with_the_one_that_started_it_however_that_ends(tmp_path):
    """Also a job that runs then, whose own process lives on."""
    (tmp_path / "job.py").write_text(
        HEAD + "print(os.getpid(), flush=True)\ntime.sleep(600)", encoding="utf-8"
    )
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, subprocess; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
            "import os\nfrom faultline.snake import warm\nprint(warm.start()[0].pid)\n"
            "job = [sys.executable, warm.LAUNCH, os.environ[warm.ADDRESS], 'log', 'job.py']\n"
            "subprocess.Popen(job).wait()",
        ],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != warm.ADDRESS} | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    processes = [psutil.Process(int(starter.stdout.readline())) for _ in range(2)]
    starter.kill()
    for process in processes:
        until(
            lambda process=process: (
                not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            )
        )
    starter.communicate()
