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
    threads: 2
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        config=ordered({key: part for key, part in config.items() if key not in ASIDE}),
        notes=[*map(list, COVERAGE.items())],
        described=hashlib.sha256(repr(described()).encode()).hexdigest(),  # of the tables
        code=code(
            "report",
            *(f"faultline/studies/{study}/section" for study in STUDIES),
        ),
    script:
        "../workflow/report.py"


onsuccess:
    ending.succeed(RUN, config, report=REPORT, template=TEMPLATE)


onerror:
    ending.fail(RUN, config, template=TEMPLATE)
