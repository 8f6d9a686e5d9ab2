"""What mkdocs.yml hooks in: pages of the site that are made of what stands elsewhere.

The files at the top of the repository are pages, too; the gallery shows the figures of README.md
and findings.md, each with the config that made it; functions are those that `faultline` exports,
and modules those whose code a page links to, both from their docstrings.
"""

import ast
import re
from itertools import groupby
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
}
"""File at the top of the repository -> its place in the site."""


CODE = re.compile(r"\]\(\.\./workflow/(faultline/[\w/]+)\.py\)")
"""A link of a page to a module of the library."""


def dotted(path: str) -> str:
    return path.replace("/", ".")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def on_files(files, config):
    made = {place: text(source) for source, place in TOP.items()}
    made |= {"gallery.md": gallery(), "functions.md": functions(), "modules.md": modules()}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, *, page, **_) -> str:
    """Links between the top of the repository and docs/ are links between neighbours here."""
    if page.file.src_uri in TOP.values():
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    for source, place in TOP.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(source)}(?=[#)])", f"]({place}", markdown)
    return CODE.sub(lambda link: f"](modules.md#{dotted(link[1])})", markdown)


def gallery() -> str:
    """Each figure with its caption and the config that made it, or the benchmark."""
    lines = ["# Figures, and the config that made each", ""]
    lines += ["`python docs/figures.py results docs` draws them from the tables of these runs."]
    for picture, caption in figures(text("README.md")):
        lines += shown("The default run", "", picture, caption, ["config.yaml"])
    for page in ("findings.md", "methods.md"):
        for section in text(f"docs/{page}").split("\n## ")[1:]:
            heading = section.splitlines()[0]
            configs = re.findall(r"--configfile (\S+)", section)
            for picture, caption in figures(section):
                lines += shown(heading, page, picture, caption, configs)
                if not configs:
                    lines += ["", *re.findall(r"^    python benchmarks/.*$", section, flags=re.M)]
    return "\n".join(lines)


def figures(markdown: str) -> list[tuple[str, str]]:
    """(the image, its caption) of every figure of a page."""
    found = re.findall(r"^(!\[[^\]]*\]\(\S+\))$(?:\n\n\*(.*?)\*$)?", markdown, flags=re.M | re.S)
    return [(picture.replace("](docs/", "]("), caption) for picture, caption in found]


def shown(heading: str, page: str, picture: str, caption: str, configs: list[str]) -> list[str]:
    title = re.match(r"!\[(.*?)\]", picture)[1]
    slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    lines = ["", f"## {title}", "", picture, "", caption]
    lines += ["", f"From [{heading}]({page}#{slug})."] * bool(page)
    for path in dict.fromkeys(configs):
        config = [f"    {line}".rstrip() for line in text(path).splitlines()]
        lines += ["", f'??? example "{path}"', "", "    ```yaml", *config, "    ```"]
    return lines


def functions() -> str:
    """What `faultline` exports, by floor, from the docstrings."""
    exported = re.findall(
        r"^from (\S+) import (\w+)", text("workflow/faultline/__init__.pyi"), re.M
    )
    lines = [
        "# Functions",
        "",
        "All of them are in `faultline` by name: [how they go together](api.md).",
    ]
    for floor, names in groupby(exported, key=lambda pair: pair[0].split(".")[1]):
        about = ast.get_docstring(ast.parse(text(f"workflow/faultline/{floor}/__init__.py")))
        lines += ["", f"## {floor}", "", about]
        lines += [f"\n::: {home}.{name}" for home, name in names]
    return "\n".join(lines)


def modules() -> str:
    """The modules that pages link to, with what is public in them."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    linked = sorted({dotted(path) for page in pages for path in CODE.findall(page)})
    lines = ["# Modules", "", "How it is computed: the modules that the other pages refer to."]
    for name in linked:
        options = {"heading_level": 2, "show_root_full_path": True}
        lines += ["", f"::: {name}", f"    options: {options}"]
    return "\n".join(lines)
