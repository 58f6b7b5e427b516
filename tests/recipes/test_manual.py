"""Pages of tldr as people should read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemmary.recipes.manual import Example, parse, plain_command, read_pages
from tests.recipes import toydata


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("tar xf {{path/to/source.tar[.gz|.bz2|.xz]}} {{[-C|--directory]}} {{path/to/directory}}",
         "tar xf source.tar -C directory"),
        ("cat {{path/to/file1 path/to/file2 ...}}", "cat file1 file2"),
        ("docker {{[ps|container ls]}} {{[-a|--all]}}", "docker ps -a"),
        ("docker container {{start|stop}} {{container_name}}", "docker container start container_name"),
        ("ps aux | grep {{[s]tring}}", "ps aux | grep string"),
        ("gzip -{{1..9}} {{path/to/file}}", "gzip -1 file"),
        (r"docker inspect -f '\{\{.Image\}\}' {{container}}", "docker inspect -f '{{.Image}}' container"),
        ("ls {{/path/to/directory}}", "ls directory"),
        ("useradd -G {{group1,group2,...}} {{name}}", "useradd -G group1,group2 name"),
        ("jq '{{...}}'", ""),
        ("find . -exec {{wc -l}} {} \\;", "find . -exec wc -l {} \\;"),
    ],
)  # fmt: skip
def test_placeholders_become_short_names(written: str, read: str) -> None:
    assert plain_command(written) == read


def test_a_page_becomes_sentences_and_commands() -> None:
    page = parse("common/tar", toydata.page("tar", "archives"), fame=3)
    assert page is not None
    assert (page.tool, page.summary, page.platform) == ("tar", "Work with archives", "")
    assert page.examples == (
        Example("List all archives in a directory", "tar -l directory"),
        Example("Remove archives", "tar -r file1 file2"),
        Example("Print the archives of a file verbosely", "tar -v file"),
    )


def test_aliases_rare_systems_and_empty_pages_are_left_out() -> None:
    text = toydata.page("tar", "archives")
    assert parse("common/x", text.replace("Work with", "This command is an alias of")) is None
    assert parse("sunos/x", text) is None
    assert parse("common/x", "# x\n\n> Nothing to see.\n") is None
    osx = parse("osx/x", text)
    assert osx is not None and osx.platform == "macOS"


def test_fame_counts_translations_and_linux_pages_replace_common_ones(tmp_path: Path) -> None:
    folder = toydata.write(tmp_path) / "multilingual"
    with (folder / "tldr.en.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "linux/tar", "text": "# tar\\n\\n> GNU tar.\\n\\n- Do it:\\n\\n`tar`\\n"}\n')
    pages = {page.id: page for page in read_pages(folder)}
    assert pages["common/grep"].fame == 3 and pages["common/quux"].fame == 0
    assert "common/tar" not in pages and pages["linux/tar"].summary == "GNU tar"
