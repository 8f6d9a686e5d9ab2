rule report:
    input:
        tables=list(TABLES.values()),
        template=os.path.relpath(ROOT / "workflow/faultline/report/report.html.j2"),
    output:
        html=report(REPORT, category="faultline"),
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        config=ordered(config),
        code=code(
            "report",
            *(
                f"faultline/studies/{study}/{part}"
                for study in STUDIES
                for part in ("__init__", "section")
            ),
        ),
    script:
        "../workflow/report.py"


PARTIAL = f"{RESULTS}/report.partial.html"


onsuccess:
    Path(PARTIAL).unlink(missing_ok=True)
    if CONSOLE:
        print(CONSOLE.end(report=REPORT), file=sys.stderr)


# What was made before a job failed is worth a look.
onerror:
    report = None
    if workflow.scheduler.failed:
        from faultline.studies import partial

        report = partial.write(
            workflow.dag.jobs,
            unfinished={*workflow.dag.needrun_jobs()},
            failed=workflow.scheduler.failed,
            path=PARTIAL,
        )
    if CONSOLE:
        print(CONSOLE.end(report=report), file=sys.stderr)
