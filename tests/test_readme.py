"""README's commands run as they are written: each fenced block that begins with ```sh test.

They are typed one after the other by a stranger in a fresh clone, so they share a folder that looks like
one and a home; ports are free ones. A block ends at the first command that fails.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers

README = servers.REPOSITORY / "README.md"
SECONDS = 600  # for one block
# The stranger's own: made in the clone, never taken from the repository at hand.
_OWN = {".run", ".env"}
_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of README: its first line's number, the words of its info string, what is in it."""

    line: int
    words: tuple[str, ...]
    script: str


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text (CommonMark 4.5).

    Raises:
        ValueError: a block is never closed.
    """
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, lines = (number, match["fence"], match["info"].strip()), []
        elif match and not match["info"].strip() and match["fence"].startswith(opened[1]):
            found.append(Block(opened[0], tuple(opened[2].split()), "\n".join(lines) + "\n"))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"the block that begins in line {opened[0]} is never closed")
    return found


def marked(text: str) -> list[Block]:
    """Return the shell blocks that are marked as tested.

    Raises:
        ValueError: another language is marked.
    """
    found = [block for block in blocks(text) if "test" in block.words[1:]]
    for block in found:
        if block.words[0] != "sh":
            raise ValueError(f"line {block.line}: only `sh` blocks can be tested, this one is {block.words[0]}")
    return found


def clone(folder: Path) -> Path:
    """Make a folder that looks like a fresh clone whose environment is installed; return it."""
    folder.mkdir()
    for entry in servers.REPOSITORY.iterdir():
        if entry.name not in _OWN:
            (folder / entry.name).symlink_to(entry)
    return folder


def run(block: Block, folder: Path, variables: dict[str, str], seconds: float = SECONDS) -> str:
    """Run a block as a stranger's shell would, stopping at the first failure; return what it printed.

    Raises:
        AssertionError: a command failed or took too long; with the block's line and what was printed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    shell = ["bash", "-euo", "pipefail", "-c", block.script]
    process = subprocess.Popen(
        shell,
        cwd=folder,
        env={**variables, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        said, _ = process.communicate()
        raise AssertionError(f"README line {block.line}: not done after {seconds:.0f} s:\n{said[-4000:]}") from None
    assert process.returncode == 0, f"README line {block.line}: exit {process.returncode}:\n{said[-4000:]}"
    return said


@pytest.mark.server
@pytest.mark.timeout(1_800)
def test_the_readmes_commands_work(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    found = marked(text)
    if re.search(r"(?m)^## Quick start", text):
        assert found, "README has a quick start, but no block that begins with ```sh test"
    folder = clone(tmp_path / "clone")
    variables = servers.environment(servers.settings(tmp_path / "home"))
    try:
        for block in found:
            run(block, folder, variables)
    finally:
        if any("fraud-detect up" in block.script or "make up" in block.script for block in found):
            run(Block(0, (), "fraud-detect down\n"), folder, variables)


def test_every_block_of_the_readme_is_closed_and_marked_rightly() -> None:
    marked(README.read_text(encoding="utf-8"))


SAMPLE = """# Title

```sh
make demo
```

```sh test
echo one
echo two
```

Text with ```sh test in it.

   ~~~ sh test slow
echo "```"
   ~~~

````md
```sh test
not a block of its own
```
````
"""


def test_blocks_are_found_by_their_info_string() -> None:
    assert [(block.line, block.script) for block in marked(SAMPLE)] == [
        (7, "echo one\necho two\n"),
        (14, 'echo "```"\n'),
    ]
    assert len(blocks(SAMPLE)) == 4
    assert marked("") == []


def test_a_block_that_never_ends_or_is_no_shell_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2 is never closed"):
        blocks("x\n```sh test\necho\n")
    with pytest.raises(ValueError, match="line 1: only `sh` blocks can be tested, this one is python"):
        marked("```python test\nprint()\n```\n")


def shell(script: str) -> Block:
    return Block(7, ("sh", "test"), script)


def test_a_block_runs_in_its_folder_with_its_variables(tmp_path: Path) -> None:
    variables = {"PATH": os.environ["PATH"], "FRAUD_HOME": "there"}
    said = run(shell("echo hello > file\ncat file\necho $FRAUD_HOME\ncommand -v fraud-detect"), tmp_path, variables)
    assert said.splitlines()[:2] == ["hello", "there"]
    assert said.splitlines()[2] == str(Path(sys.executable).with_name("fraud-detect"))
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("script", ["false\necho on", "false | cat\necho on", "echo $NOWHERE_SET\necho on"])
def test_a_block_fails_with_its_first_command(script: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="README line 7: exit 1") as caught:
        run(shell("echo before\n" + script), tmp_path, dict(os.environ))
    assert "before" in str(caught.value)
    assert "\non" not in str(caught.value)


def test_a_block_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"README line 7: not done after 0 s:\nbefore"):
        run(shell("echo before\nsleep 60 & sleep 60"), tmp_path, dict(os.environ), seconds=0.4)


def test_the_clone_has_everything_but_what_is_the_strangers(tmp_path: Path) -> None:
    made = {entry.name for entry in clone(tmp_path / "clone").iterdir()}
    assert {"README.md", "Makefile", "fraud", "schemas"} <= made
    assert not made & _OWN
