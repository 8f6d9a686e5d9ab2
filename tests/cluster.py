"""A real SLURM of one node, started by the tests as root and stopped again; no database.

`python tests/cluster.py NEW_FOLDER` holds one until its standard input ends, so that nothing is
left of it when the tests are killed.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
SYSTEM_FILES = [Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf")]
ENVIRONMENT = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

CONF = """\
ClusterName=faultline
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=86400
KillWait=2
InactiveLimit=0
Prolog={folder}/note
Epilog={folder}/note
GresTypes=gpu
NodeName=faultline NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=8 RealMemory=32000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes=faultline Default=YES MaxTime=1-0 State=UP PriorityTier=1
PartitionName=urgent Nodes=faultline MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=OFF
"""  # noqa: E501
# What each job holds, in the order of its coming and going.
NOTE = """\
#!/bin/sh
echo "$SLURM_SCRIPT_CONTEXT $SLURM_JOB_ID $SLURM_JOB_GPUS" >> {folder}/jobs
"""
GRES = "NodeName=faultline Name=gpu Type=fake File={folder}/gpu[0-1]\n"
DAEMONS = (
    "munged --foreground --force --key-file={folder}/munge.key --socket={folder}/munge.socket"
    " --pid-file={folder}/munged.pid --log-file={folder}/munged.log"
    " --seed-file={folder}/munge.seed",
    "slurmctld -D",
    "slurmd -D -N faultline",
)


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=ENVIRONMENT["PATH"])]
    if absent:
        return f"SLURM is not installed ({', '.join(absent)})"
    if os.geteuid() != 0:
        return "starting a SLURM of one's own needs root"
    if there := [str(file) for file in SYSTEM_FILES if file.exists()]:
        return f"this machine has a SLURM of its own ({', '.join(there)})"
    return ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(*command: str, check: bool = True) -> str:
    """What a SLURM command says."""
    done = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, timeout=60)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait(until, *, seconds: float = 300) -> None:
    """Until something is true; a command that fails has not said so yet."""
    for _ in range(int(seconds * 2)):
        with contextlib.suppress(AssertionError):
            if until():
                return
        time.sleep(0.5)
    raise TimeoutError(until)


@contextlib.contextmanager
def cluster(folder: Path):
    """munged, slurmctld and slurmd; two fake GPUs, partitions main and urgent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    with log.open("wb") as said:
        keeper = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for the tests
        )
    try:
        wait(lambda: "ready" in log.read_text() or keeper.poll() is not None)
        assert keeper.poll() is None, log.read_text()
        yield folder
    finally:
        keeper.stdin.close()
        keeper.wait(60)


def keep(folder: Path) -> None:
    """Start all, wait for the end of standard input, stop all."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "note").write_text(NOTE.format(folder=folder), encoding="utf-8")
    (folder / "note").chmod(0o755)
    conf = CONF.format(
        folder=folder, host=socket.gethostname(), controller=free_port(), node=free_port()
    )
    SYSTEM_FILES[0].parent.mkdir(exist_ok=True)
    daemons = []
    try:
        for device in range(2):
            # A device that is there on every machine.
            (folder / f"gpu{device}").symlink_to("/dev/null")
        for file, text in zip(SYSTEM_FILES, (conf, GRES.format(folder=folder)), strict=True):
            file.write_text(text, encoding="utf-8")
        for command in DAEMONS:
            daemons.append(subprocess.Popen(command.format(folder=folder).split(), env=ENVIRONMENT))
            if len(daemons) == 1:
                wait((folder / "munge.socket").exists, seconds=30)
        wait(lambda: run("sinfo", "-h", "-p", "main", "-o", "%T").strip() == "idle", seconds=60)
        print("ready", flush=True)
        sys.stdin.read()
    except TimeoutError:
        for file in folder.glob("*.log"):
            print(f"{file.name}:\n{file.read_text()[-2000:]}")
        raise
    finally:
        with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
            run("scancel", "--full", "--user=root", check=False)
            wait(lambda: not run("squeue", "-h").strip(), seconds=20)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for file in SYSTEM_FILES:
            file.unlink(missing_ok=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]).resolve())
