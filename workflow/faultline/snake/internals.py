"""What faultline uses of Snakemake that is private there or not documented: all of it, here alone.

Tested with Snakemake `TESTED`. Where another version lacks a name, a UserError says so, names that
version and what the name is for; at the start of a run, if it can be told by then. What a run can
do without is left out instead, and this is said. No torch.
"""

import functools
import importlib
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from faultline.base.errors import UserError

TESTED = ("9.26.1", "9.27.1")


def _inner(value, path: str, use: str):
    """What a name, or names with dots between, of a thing of Snakemake's stands for."""
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise UserError(
                f"Snakemake {metadata.version('snakemake')} has no {path}, by which faultline "
                f"{use}; install one that faultline was tested with: {' or '.join(TESTED)}"
            ) from None
    return value


def _module(name: str, path: str, use: str):
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    return _inner(module, path, use)


@contextmanager
def optional() -> Iterator[None]:
    """What the block does is left out, and this is said, where Snakemake has not what it needs."""
    try:
        yield
    except UserError as error:
        _logger().warning(f"warning: left out: {error}")


def tell(line: str) -> None:
    """Say a line as Snakemake says its own."""
    _logger().info(line)


def _logger() -> logging.Logger:
    return _module("snakemake.logging", "logger", "says what a run is to do")


class _Of:
    """An attribute of the `workflow` object that a Snakefile has; later: not while it is parsed."""

    def __init__(self, path: str, use: str, *, later: bool = False):
        self.path, self.use, self.later = path, use, later

    def __get__(self, run, _=None):
        return _inner(run.workflow, self.path, self.use)


class Why(NamedTuple):
    """Why Snakemake runs a job: params that its outputs were made with and it has no longer, and
    which of these hold."""

    old_params: frozenset
    forced: bool
    settings: bool
    inputs: bool
    unfinished: bool


class Workflow:
    """The `workflow` object of a Snakefile; a UserError where it lacks what there must be."""

    main_file = _Of("main_snakefile", "tells whether another workflow has it as a module")
    config_files = _Of("configfiles", "finds the config")
    arguments = _Of("config_settings.config", "reads --config")
    mode = _Of("exec_mode", "tells the processes of jobs from that of the run")
    nodes = _Of("nodes", "tells a run on a cluster")
    elsewhere = _Of("remote_exec", "tells a job on a cluster")
    limits = _Of("global_resources", "runs no more jobs at once than there are GPUs")
    deployment = _Of("deployment_settings.deployment_method", "leaves jobs in environments alone")
    dry = _Of("output_settings.dryrun", "tells a dry run")
    cores = _Of("resource_settings.cores", "knows how many jobs run at once")
    quiet = _Of("output_settings.quiet", "says less")
    verbose = _Of("output_settings.verbose", "says more")
    commands = _Of("output_settings.printshellcmds", "says more")
    debugs = _Of("output_settings.debug_dag", "says more")
    touches = _Of("touch", "takes what --touch takes for made")
    handlers = _Of("logger_manager.logger.handlers", "says one line a job")
    start = _Of("start_time", "tells when a run began", later=True)
    jobs = _Of("dag.jobs", "knows the jobs of a run", later=True)
    unfinished = _Of("dag.needrun_jobs", "knows the jobs that are to run", later=True)
    failed = _Of("scheduler.failed", "tells what failed", later=True)
    stop = _Of("scheduler.exit_gracefully", "stops a run with its jobs", later=True)
    _reason = _Of("dag.reason", "says why jobs run", later=True)
    _search = _Of("dag.bfs", "forces what follows from a job", later=True)
    _depending = _Of("dag.depending", "forces what follows from a job", later=True)

    def __init__(self, workflow):
        self.workflow = workflow

    def check(self) -> None:
        """UserError where Snakemake lacks a name that is there while a Snakefile is parsed."""
        for part in vars(type(self)).values():
            if isinstance(part, _Of) and not part.later:
                part.__get__(self)

    @property
    def is_a_job(self) -> bool:
        """Whether this Snakemake was started by another one, for some of its jobs."""
        use = "tells the processes of jobs from that of the run"
        return self.mode != _module("snakemake.settings.types", "ExecMode.DEFAULT", use)

    @property
    def is_here(self) -> bool:
        """Whether jobs run on this machine, started by the Snakemake of the run."""
        return self.nodes is None and not self.elsewhere

    def limit(self, resource: str, most: int) -> None:
        """Let the jobs that run at once take no more, unless the command line says otherwise."""
        self.limits.setdefault(resource, most)

    def give(self, config_file: Path) -> None:
        """Have the Snakemakes that this one starts for jobs read this config, and none besides."""
        use = "tells jobs the config of their run"
        settings = _inner(self.workflow, "config_settings", use)
        for name, value in (("configfiles", [config_file]), ("config_args", [])):
            _inner(settings, name, use)
            setattr(settings, name, value)

    def count_only(self) -> None:
        """Let a dry run end once it has counted its jobs, without going through each."""
        use = "tells how many jobs there are"
        settings = _inner(self.workflow, "output_settings", use)
        quiet = _module("snakemake.settings.types", "Quietness", use)
        settings.quiet = {_inner(quiet, name, use) for name in ("RULES", "PROGRESS")}

    def why(self, job) -> Why:
        """Why a job is to run."""
        use = "says why jobs run"
        get = functools.partial(_inner, self._reason(job), use=use)
        params = get("params_changed")
        return Why(
            old_params=frozenset(_inner(params, "only_old", use) if params else ()),
            forced=bool(get("forced")),
            settings=bool(params or get("code_changed") or get("software_stack_changed")),
            inputs=bool(get("input_changed") or get("updated_input")),
            unfinished=bool(get("incomplete_output")),
        )

    def forced(self) -> list:
        """The jobs that were asked for whatever there is, and all that follow from them."""
        jobs = [job for job in self.unfinished() if self.why(job).forced]
        return [*self._search(self._depending, *jobs)] if jobs else []

    def drop_rate_limit(self) -> None:
        """With its limit of jobs per second, Snakemake 9.27 chooses anew once a second for each
        choice that it ever made: half a core after a few hundred jobs."""
        scheduler = _inner(self.workflow, "scheduler", "saves a core")
        _inner(scheduler, "job_rate_limiter", "keeps Snakemake from taking a core for itself")
        scheduler.job_rate_limiter = None

    def terminal(self) -> logging.Handler:
        """What writes to the terminal."""
        for handler in self.handlers:
            if handler.name == "DefaultStreamHandler":
                return handler
        raise UserError(
            f"Snakemake {metadata.version('snakemake')} has no DefaultStreamHandler, by which "
            f"faultline says one line a job; tested are {' and '.join(TESTED)}"
        )


def rule_of(job) -> str:
    """The name of a job's rule."""
    return _inner(job, "rule.name", "knows the rules of jobs")


def described(job) -> tuple[str, dict[str, str], list[str]]:
    """The name of a job's rule, its wildcards, and the files that it makes."""
    use = "knows what a run will cost"
    files = _inner(job, "output", use)
    return rule_of(job), dict(_inner(job, "wildcards", use).items()), [*map(str, files)]


def lead_groups() -> None:
    """Start jobs as leaders of process groups of their own."""
    arguments = _module("snakemake.shell", "shell._process_args", "ends the jobs of a run with it")
    arguments["process_group"] = 0


def cancel_every_job() -> None:
    """Have a Snakemake that is stopped cancel those jobs of a cluster, too, whose state it is just
    asking for: it takes them off its list meanwhile."""
    use = "cancels the jobs of a run that is stopped"
    plugin = "snakemake_interface_executor_plugins.executors.remote"
    remote = _module(plugin, "RemoteExecutor", use)
    submit, cancel = (_inner(remote, name, use) for name in ("report_job_submission", "cancel"))
    if hasattr(cancel, "__wrapped__"):
        return
    under_way: dict[int, object] = {}

    @functools.wraps(submit)
    def submitted(self, job_info, *given, **more):
        under_way[id(job_info)] = job_info
        submit(self, job_info, *given, **more)

    def without(report):
        @functools.wraps(report)
        def reported(self, job_info, *given, **more):
            under_way.pop(id(job_info), None)
            report(self, job_info, *given, **more)

        return reported

    @functools.wraps(cancel)
    def cancelled(self):
        with self.lock:
            self.active_jobs[:] = [*under_way.values()]
        cancel(self)

    for name in ("report_job_success", "report_job_error"):
        setattr(remote, name, without(_inner(remote, name, use)))
    remote.report_job_submission, remote.cancel = submitted, cancelled


def on_delete(before: Callable[[], None], after: Callable[[Iterable], None]) -> None:
    """Call functions as outputs of jobs are deleted by `snakemake --delete-all-output`: one before
    that, and one after it, with all jobs; neither in a dry run."""
    dag = _module("snakemake.dag", "DAG", "deletes the records of deleted files")
    clean = _inner(dag, "clean", "deletes the records of deleted files")

    async def clean_and_call(self, only_temp=False, dryrun=False):
        if not dryrun:
            before()
        await clean(self, only_temp=only_temp, dryrun=dryrun)
        if not dryrun:
            after(self.jobs)

    dag.clean = clean_and_call


def remember(facts: Callable[[str, bool], dict | None]) -> None:
    """Have Snakemake know of files what `facts` says of them: from a path, and whether Snakemake
    itself remembers anything of it, some of rule, params, input and input_checksums; None: no
    more than it remembers."""
    get = functools.partial(_module, "snakemake.persistence", use="goes by the records of files")
    base, record = get("PersistenceBase"), get("MetadataRecord")
    version, remembers = get("RECORD_FORMAT_VERSION"), get("PersistenceBase.metadata")

    @functools.lru_cache(maxsize=256)  # Snakemake asks for each eight times
    def of(self, target, time: int):
        remembered = remembers(self, target)
        said = facts(str(target), remembered is not None)
        if said is None:
            return remembered
        if remembered is None:
            remembered = record(starttime=time / 1e9, endtime=time / 1e9)
        return remembered.model_copy(update=said | {"record_format_version": version})

    def metadata_of(self, target):
        try:
            time = Path(target).stat().st_mtime_ns
        except OSError:
            return remembers(self, target)
        return of(self, target, time)

    base.metadata = metadata_of


def look_once() -> None:
    """Have Snakemake look up the script of a rule once, not for each of its jobs, which takes an
    eighth of a dry run."""
    use = "starts without delay"
    scripts = _module("snakemake.dag", "ScriptProcessor", use)
    look, seen = _inner(scripts, "process_job", use), set()

    def process_job(self, job):
        kind = _inner(self, "script_type", use)
        script = _inner(job, f"rule.{kind}", use), _inner(job, "rule.basedir", use)
        if script not in seen or "{" in str(script[0]):
            look(self, job)
            seen.add(script)

    scripts.process_job = process_job


def start_by(command: list[str], folder: Path) -> None:
    """Start the scripts of jobs that lie in a folder by a command, which is given the job's log and
    the script, and not by Python alone, which would import Snakemake for each."""
    use = "starts jobs without a wait"
    scripts, folder = _module("snakemake.script", "PythonScript", use), folder.resolve()
    execute = _inner(scripts, "_execute_cmd", use)

    def begin(self, cmd, **settings):
        if (
            _inner(self, "is_local", use)
            and Path(self.local_path).resolve().parent == folder.resolve()
        ):
            settings["py_exec"] = shlex.join([*command, str(self.log[0])])
        return execute(self, cmd, **settings)

    scripts._execute_cmd = begin


PREAMBLE_ENDS = b"######## snakemake preamble end #########\n"
"""Stands in a job's script between what Snakemake puts before it and the script itself."""


def own_script() -> tuple[str, bytes] | None:
    """The name and the text of the script that this process runs as a job; None where it is none.
    Snakemake writes a copy of it, .snakemake/scripts/tmp1234.NAME.py."""
    try:
        text = Path(sys.argv[0]).read_bytes()
    except OSError:
        return None
    _, preamble, script = text.partition(PREAMBLE_ENDS)
    return (Path(sys.argv[0]).name.partition(".")[2], script) if preamble else None
