TEMPLATE = ROOT / "workflow/faultline/report/report.html.j2"


rule report:
    input:
        tables=list(TABLES.values()),
        template=os.path.relpath(TEMPLATE),
        assets=[os.path.relpath(file) for file in sorted(TEMPLATE.parent.glob("assets/*"))],
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
        config=ordered({key: part for key, part in config.items() if key != "keep"}),
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


def end(report):
    """Write the page on the run itself, and tell where the report is."""
    from faultline.report import timeline
    from faultline.report.render import load_look, versions

    began = workflow.start_time.timestamp()
    jobs = timeline.taken(Path(RESULTS))
    if len(jobs):
        page = timeline.timeline(
            jobs,
            since=began,
            facts=timeline.about(ROOT, command=sys.argv, began=began),
            config=config,
            versions=versions(),
            **load_look(TEMPLATE),
        )
        save_text(page, f"{RESULTS}/run.html")
    if CONSOLE:
        print(CONSOLE.end(report=report), file=sys.stderr)


onsuccess:
    Path(PARTIAL).unlink(missing_ok=True)
    end(REPORT)


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
    end(report)
