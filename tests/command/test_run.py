"""faultline run: what it gives to Snakemake, and what it refuses in one line."""

import re

import pytest
from support import ROOT, error_of

from faultline.command import run
from faultline.command.__main__ import SUBCOMMANDS, main

CONFIG = ["--configfile", "my.yaml"]
SNAKEFILE = ["--snakefile", str(ROOT / "Snakefile")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder with a config and no clone."""
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").touch()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], ["--cores", "all"]),
        (["my.yaml"], ["--cores", "all", *CONFIG]),
        (["my.yaml", "-c", "2", "-n"], ["-c", "2", "-n", *CONFIG]),
        (["my.yaml", "--cores=2", "a/b.tsv"], ["--cores=2", "a/b.tsv", *CONFIG]),
        (["--profile", "slurm", *CONFIG, "-n"], ["--profile", "slurm", *CONFIG, "-n"]),
        (["a.tsv", "--config", "seeds=[0]"], ["--cores", "all", "a.tsv", "--config", "seeds=[0]"]),
    ],
)
def test_what_is_given_to_snakemake(words, given):
    assert run.arguments(words) == [*SNAKEFILE, *given]


def test_a_clone_runs_its_own_workflow(tmp_path, monkeypatch):
    (tmp_path / "workflow/faultline").mkdir(parents=True)
    (tmp_path / "workflow/faultline/__init__.py").touch()
    (tmp_path / "Snakefile").touch()
    assert run.arguments(["-j", "1"]) == ["--snakefile", "Snakefile", "-j", "1"]
    assert run.arguments(["-s", "mine.smk", "-j", "1"]) == ["-s", "mine.smk", "-j", "1"]
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "slurm")
    assert "--cores" not in run.arguments([])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["his.yaml"], "his.yaml: no such file"),
        (["-n", "--configfile", "my.yaml", "his.yaml"], "his.yaml: no such file"),
        ([*CONFIG, "a/b.tsv", "-n"], "a/b.tsv: is no config; name targets before --configfile"),
    ],
)
def test_what_snakemake_would_end_in_a_traceback_for(words, said):
    assert error_of(run.arguments, words).startswith(said)
    with pytest.raises(SystemExit, match=f"error: {said}"):
        main(["run", *words])


def test_each_subcommand_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in SUBCOMMANDS)
    for name in SUBCOMMANDS:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert not end.value.code and f"usage: faultline {name}" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_run_will_cost(fresh):
    done = fresh.faultline("cost", "config.yaml")
    assert done.returncode == 0, done.stdout
    *stages, cost, time, dearest = done.stdout.splitlines()
    assert re.match(r"cost: \d+ jobs, .* images judged under .* variants, .*FLOP \(", cost)
    assert re.match(r"time: about .* on one CPU core", time)
    assert re.match(r"dearest: \w+, \d+% of it", dearest)
    assert {"ablate_layer", "train"} <= {line.split()[0] for line in stages}


@pytest.mark.slow
def test_a_dry_run(fresh):
    done = fresh.faultline("run", "config.yaml", "-n", "results/digits/data.pt")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "prepare_data  1",
        "1 job would run: this was a dry run; -p lists each",
    ]
