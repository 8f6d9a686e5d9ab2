"""What a signal does to Snakemake's jobs, where these do not mind."""

import signal
import subprocess
import sys

from support import ROOT

SNAKEMAKE = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from faultline.snake import stopping
stopping.stop_with_jobs(stopping.line)
begin = [sys.executable, "-c", sys.argv[2]]
apart = subprocess.Popen(begin, stdout=subprocess.PIPE, start_new_session=True)
apart.stdout.readline()
job = subprocess.Popen(begin, process_group=0)
try:
    job.wait()
except SystemExit:
    print("ended by", job.wait(), flush=True)
    apart.kill()
    raise
"""
JOB = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def test_a_second_signal_kills_jobs_that_do_not_end():
    """And no other child of Snakemake, such as the process that jobs start from."""
    snakemake = subprocess.Popen(
        [sys.executable, "-c", SNAKEMAKE, str(ROOT / "workflow"), JOB],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert snakemake.stdout.readline() == "ready\n"
    snakemake.send_signal(signal.SIGINT)
    assert snakemake.stdout.readline() == "asked\n"
    snakemake.send_signal(signal.SIGTERM)
    out, err = snakemake.communicate()
    assert out == f"ended by {-signal.SIGKILL}\n" and snakemake.returncode == 128 + signal.SIGINT
    assert err == "stopped by Ctrl-C; the same command goes on from there\n"
