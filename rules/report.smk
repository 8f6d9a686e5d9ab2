rule report:
    """The page of the run, and its config with every default filled in."""
    input:
        tables=list(TABLES.values()),
        template=os.path.relpath(TEMPLATE),
        assets=[os.path.relpath(file) for file in sorted(TEMPLATE.parent.glob("assets/*"))],
    output:
        html=report(
            REPORT,
            caption="../workflow/captions/page.rst",
            category="Page",
            labels={"page": "report"},
        ),
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        config=ordered({key: part for key, part in config.items() if key != "keep"}),
        notes=[*map(list, COVERAGE.items())],
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
    end_run(REPORT if any(REPORT in job.output for job in workflow.dag.jobs) else None)


# What was made before a job failed is worth a look; whoever stops a run wants it to end.
onerror:
    if not stopping.stopped():
        report = None
        if workflow.scheduler.failed:
            from faultline.studies import partial

            report = partial.write(
                workflow.dag.jobs,
                unfinished={*workflow.dag.needrun_jobs()},
                failed=workflow.scheduler.failed,
                path=PARTIAL,
            )
        end_run(report)
