"""Pages of the site that are made from the program itself, and links that lead out of the pages.

mkdocs calls the functions named `on_...`. Rejected: plugins for generated pages and for `llms.txt`, which
need more settings than this has lines.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "subscribers")]

import eventbus  # noqa: E402
from eventbus.cli import main  # noqa: E402
from eventbus.cli.command_table import every_command  # noqa: E402

HOME = "https://github.com/anyio-eventbus/anyio-eventbus/blob/main/"
FENCED = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
SENTENCE = re.compile(rf"{FENCED.pattern}|^(\d+)\. ", re.MULTILINE | re.DOTALL)
"""The beginning of a numbered sentence, or a fenced block, in which there is none."""
NAMES_BY_SECTION = {
    "The bus": ("bus", "contracts", "delivery"),
    "Sessions and trackers": ("session", "trackers"),
    "Correlation": ("correlation", "correlator", "coordinator"),
    "Errors": ("errors",),
}
INTEGRATIONS = ("oneiric", "crackerjack", "claude_code")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out the pages of the navigation that are not there."""
    config.nav = _existing(config.nav or [], Path(config.docs_dir))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in _pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside of the pages lead to the project's home, and mark numbered sentences."""
    depth = page.file.src_uri.count("/") + 1
    text = markdown.replace("](" + "../" * depth, f"]({HOME}")
    return SENTENCE.sub(lambda found: found[0] if found[1] else f"{found[2]}. <!--number {found[2]}-->", text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give each numbered sentence its number: Markdown numbers each list from 1."""
    numbered = re.sub(r"<li>(\s*(?:<p>)?)<!--number (\d+)-->", r'<li value="\2">\1', html)
    if "<!--number" in numbered:
        logging.getLogger("mkdocs.hooks").warning("%s: a number begins no item of a list", page.file.src_uri)
    return numbered


def on_post_build(config: MkDocsConfig) -> None:
    """Write `llms.txt`, a list of the pages, and `llms-full.txt`, all their text."""
    pages = [page for page in _flat(config.nav or []) if not page.startswith("reference/api")]
    texts = {page: _source(page, Path(config.docs_dir)) for page in pages}
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    for page, text in texts.items():
        place = config.site_url + ("" if page == "index.md" else f"{page.removesuffix('.md')}/")
        lines.append(f"- [{_title(text)}]({place}): {_summary(text)}")
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(texts.values()), "utf-8")


def _existing(entries: list[Any], docs: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            kept.append({title: _existing(target, docs)})
        elif (docs / target).exists() or target.startswith("reference/"):
            kept.append(entry)
    return kept


def _flat(entries: list[Any]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += _flat(target) if isinstance(target, list) else [target]
    return found


def _source(page: str, docs: Path) -> str:
    is_generated = page.startswith("reference/")
    return _pages()[Path(page).stem] if is_generated else (docs / page).read_text("utf-8")


def _title(text: str) -> str:
    return next(line[2:] for line in text.splitlines() if line.startswith("# "))


def _summary(text: str) -> str:
    prose = FENCED.sub("", text)
    paragraphs = (each for each in re.split(r"\n\s*\n", prose) if re.match(r"[A-Z`]", each))
    sentence = " ".join(next(paragraphs, "").split()).partition(". ")[0].rstrip(".:")
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", sentence)


# The pages.


def _pages() -> dict[str, str]:
    return {
        "commands": _commands(),
        "events": _events(),
        "api": _api(),
        "api-log": _modules("The log, in a program", ["eventbus.history", "eventbus_subscribers"]),
        "api-testing": _modules("Testing subscribers", ["eventbus.testing"]),
        "api-integrations": _modules(
            "Integrations", [f"eventbus.integrations.{name}" for name in INTEGRATIONS]
        ),
    }


def _commands() -> str:
    parts = ["# Commands, one by one", "What each command prints for `--help`."]
    for words in _command_words():
        parts += [f"## eventbus {' '.join(words)}".rstrip(), f"```text\n{_help(words)}\n```"]
    return "\n\n".join(parts) + "\n"


def _command_words() -> list[list[str]]:
    return [[], *(words.split() for words, command in every_command() if not command.passes_options_on)]


def _help(words: list[str]) -> str:
    os.environ |= {"COLUMNS": "80", "NO_COLOR": "1"}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*words, "--help"])
    return out.getvalue().strip()


def _events() -> str:
    introduction = (
        "Every event has `session_id`, `timestamp` and `metadata`. A subscription to a class gets its "
        "subclasses, too. The wire name is the value of `event_type` in a line of the log."
    )
    parts = ["# Events", introduction]
    for cls in _event_classes():
        parts += [f"## {cls.__name__}", _first_paragraph(cls), _base_and_name(cls), _fields(cls)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _event_classes() -> list[type[eventbus.Event]]:
    named = [getattr(eventbus, name) for name in eventbus.__all__]
    classes = [each for each in named if isinstance(each, type) and issubclass(each, eventbus.Event)]
    return sorted(classes, key=lambda each: [parent.__name__ for parent in reversed(each.__mro__)])


def _first_paragraph(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("``", "`")


def _base_and_name(cls: type[eventbus.Event]) -> str:
    base = "" if cls is eventbus.Event else f"Base: `{cls.__mro__[1].__name__}`. "
    return f"{base}Wire name: `{cls.__struct_config__.tag}`."


def _fields(cls: type[eventbus.Event]) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    described = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
    inherited = set(getattr(cls.__mro__[1], "__struct_fields__", ()))
    rows = [
        f"| `{field.name}` | `{_type(cls, field.name)}` | {_text(described.get(field.name, ''))} |"
        for field in msgspec.structs.fields(cls)
        if field.name not in inherited
    ]
    return "\n".join(["| field | type | |", "| --- | --- | --- |", *rows]) if rows else ""


def _type(cls: type, field: str) -> str:
    for each in cls.__mro__:
        if field in vars(each).get("__annotations__", {}):
            return str(vars(each)["__annotations__"][field])
    return ""


def _text(description: str) -> str:
    return " ".join(description.split()).replace("``", "`").replace("|", "\\|")


def _api() -> str:
    parts = ["# API", "The public names of `eventbus`. `from eventbus import` gives each of them."]
    homes = {name: getattr(getattr(eventbus, name), "__module__", "") for name in eventbus.__all__}
    left = {name for name, home in homes.items() if home.startswith("eventbus.events")}
    for section, folders in NAMES_BY_SECTION.items():
        names = [name for folder in folders for name, home in homes.items() if _folder(home) == folder]
        left |= set(names)
        parts += [f"## {section}", *(_entry(f"{homes[name]}.{name}") for name in names)]
    functions = [
        name
        for name, home in homes.items()
        if home.startswith("eventbus.")
        and not _is_event(name)
        and (home.startswith("eventbus.events") or name not in left)
    ]
    parts += ["## More", *(_entry(f"{homes[name]}.{name}") for name in functions)]
    return "\n\n".join(parts) + "\n"


def _is_event(name: str) -> bool:
    value = getattr(eventbus, name)
    return isinstance(value, type) and issubclass(value, eventbus.Event)


def _folder(module: str) -> str:
    return module.removeprefix("eventbus.").partition(".")[0]


def _entry(path: str) -> str:
    return f"::: {path}\n    options:\n      heading_level: 3"


def _modules(title: str, modules: list[str]) -> str:
    entries = [f"::: {each}\n    options:\n      show_root_full_path: true" for each in modules]
    return "\n\n".join([f"# {title}", *entries]) + "\n"
