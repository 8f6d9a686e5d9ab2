"""A real SLURM of one node, started by the tests as root and stopped again; no database."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
SYSTEM_FILES = [Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf")]

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
GresTypes=gpu
NodeName=faultline NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=8 RealMemory=32000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes=faultline Default=YES MaxTime=1-0 State=UP PriorityTier=1
PartitionName=urgent Nodes=faultline MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=OFF
"""  # noqa: E501
GRES = "NodeName=faultline Name=gpu Type=fake File=/dev/tty[0-1]\n"


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if not shutil.which(program, path=path)]
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


class Cluster:
    """Context manager: munged, slurmctld and slurmd; two fake GPUs, partitions main and urgent."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        self.environment = os.environ | {"PATH": path}

    def __enter__(self) -> "Cluster":
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        conf = CONF.format(
            folder=self.folder, host=socket.gethostname(), controller=free_port(), node=free_port()
        )
        SYSTEM_FILES[0].parent.mkdir(exist_ok=True)
        for file, text in zip(SYSTEM_FILES, (conf, GRES), strict=True):
            file.write_text(text, encoding="utf-8")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        try:
            self._start(
                *("munged", "--foreground", "--force", f"--key-file={key}"),
                *(f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid"),
                *(f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munge.seed"),
            )
            self.wait(lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", "faultline")
            self.wait(lambda: self.run("sinfo", "-h", "-p", "main", "-o", "%T").strip() == "idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--full", "--user=root", check=False)
            self.wait(lambda: not self.run("squeue", "-h", check=False).strip(), seconds=20)
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        for file in SYSTEM_FILES:
            file.unlink(missing_ok=True)

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        self.processes.append(
            subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        )

    def run(self, *command: str, check: bool = True) -> str:
        """What a SLURM command says."""
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def wait(self, until, *, seconds: float = 60) -> None:
        """Until something is true; an error with the end of the daemons' logs otherwise."""
        for _ in range(int(seconds * 5)):
            with contextlib.suppress(AssertionError):
                if until():
                    return
            time.sleep(0.2)
        logs = [f"{p.name}:\n{p.read_text()[-2000:]}" for p in self.folder.glob("*.log")]
        raise TimeoutError("\n".join(logs))
