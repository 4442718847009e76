"""The pages can fail: what exists has its place, what is generated is fresh, what is linked and shown is there."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "changelog").glob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def generator() -> ModuleType:
    """docs/generate.py as a module: it knows where commands, venues and hooks are found."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


def there(part, *arguments):
    """What the generator finds in the code; the test is skipped while that code is not written at all."""
    try:
        return part(*arguments)
    except GENERATE.NotThereError as missing:
        pytest.skip(f"{missing} is not written yet")


def commands():
    """Every command by its name."""
    return there(GENERATE.app).commands


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a page."""
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def shown(language: str) -> list:
    """One case per fenced block of a language, named after its page."""
    return [
        pytest.param(body, id=f"{page.relative_to(ROOT)}:{number}")
        for page in PAGES
        for number, body in enumerate(blocks(page, language), 1)
    ]


def anchor(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


# --- what exists has its place ----------------------------------------------------------------------------------------


def test_every_venue_has_a_page():
    """A built-in venue is described, and listed on the front page of the docs."""
    front = (DOCS / "README.md").read_text(encoding="utf-8")
    for venue in there(GENERATE.venue_names):
        assert (DOCS / "look-up" / "venues" / f"{venue}.md").exists(), f"no page docs/look-up/venues/{venue}.md"
        assert f"look-up/venues/{venue}.md" in front, f"{venue} is not listed in docs/README.md"


def test_every_venue_page_has_a_venue():
    """A page whose venue is gone is gone too."""
    pages = {page.stem for page in (DOCS / "look-up" / "venues").glob("*.md")}
    assert pages - set(there(GENERATE.venue_names)) == set()


def test_every_model_has_a_page():
    """A model of ours is described field by field."""
    from tradeflood.models import Model

    for name, model in Model.models.items():
        if model.__module__.startswith("tradeflood."):
            page = DOCS / "look-up" / "models" / f"{name}.md"
            assert page.exists(), f"no page {page.relative_to(ROOT)}"
            assert f"<!-- generated: fields {name} -->" in page.read_text(encoding="utf-8")


def test_every_command_has_its_place():
    """A command stands on the page of commands with its help."""
    page = (DOCS / "look-up" / "commands.md").read_text(encoding="utf-8")
    paths = [path for path, _ in GENERATE.helps(there(GENERATE.app), None, "tradeflood")]
    missing = [path for path in paths if f"\n## {path}\n" not in page]
    assert missing == []


def test_every_command_and_option_says_what_it_does():
    """Help that is empty helps nobody."""
    import click

    bare = []
    for name, command in commands().items():
        if not command.help:
            bare.append(name)
        bare.extend(
            f"{name} {option.opts[0]}"
            for option in command.params
            if isinstance(option, click.Option) and not option.help
        )
    assert bare == []


def test_every_hook_has_its_place():
    """A hook stands on the page of hooks, and says what it is for."""
    page = (DOCS / "look-up" / "hooks.md").read_text(encoding="utf-8")
    missing = [name for name in there(GENERATE.hook_names) if f"\n## {name}\n" not in page]
    assert missing == []


def test_every_dependency_has_a_reason():
    """A dependency that nobody can explain is not needed."""
    page = (DOCS / "understand" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *(each for extra in project["project"]["optional-dependencies"].values() for each in extra),
        *(each for group in project["dependency-groups"].values() for each in group),
    ]
    names = {re.split(r"[\[<>=;~! ]", each, maxsplit=1)[0] for each in wanted} - {"tradeflood"}
    assert {name for name in names if not re.search(rf"\| {re.escape(name)}(\[\w+\])? \|", page)} == set()


def test_every_page_is_on_a_shelf():
    """The front page of the docs leads to every page."""
    front = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in front} == set()


# --- what is generated is fresh ---------------------------------------------------------------------------------------


def test_generated_parts_are_fresh():
    """`make docs` would change nothing, and there is nothing that it could not write."""
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    if done.stderr:
        pytest.skip(done.stderr.strip())


# --- what is linked and shown is there --------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """A link inside the repository names a file, and its anchor a heading of that file."""
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            broken.append(target)
        elif fragment:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            if fragment not in {anchor(heading) for heading in headings}:
                broken.append(target)
    assert broken == []


@pytest.mark.parametrize("code", shown("python"))
def test_python_is_python(code):
    """A Python block compiles, and the names it takes from us are exported."""
    tf = there(GENERATE.module, "tradeflood")
    compile(code, "<page>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    tree = ast.parse(code)
    taken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tf"
    }
    assert taken - set(tf.__all__) == set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tradeflood."):
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("text", shown("toml"))
def test_toml_is_toml(text):
    """A TOML block parses."""
    assert tomllib.loads(text)


@pytest.mark.parametrize("text", shown("sh"))
def test_commands_are_commands(text):
    """A command line in a page names a command, its options and a make target that exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["make"]:
            assert words[1] in targets, line
        if words[:1] == ["tradeflood"]:
            command = commands().get(words[1])
            assert command is not None, line
            known = {"--help", *(each for param in command.params for each in [*param.opts, *param.secondary_opts])}
            assert {word for word in words if word.startswith("--")} <= known, line


# --- the shape of the house -------------------------------------------------------------------------------------------


def test_the_architecture_fits_in_a_head():
    """ARCHITECTURE.md stays under a hundred lines."""
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 100


def test_the_architecture_names_every_room():
    """Each room of the package stands in the table of rooms."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "tradeflood"
    rooms = {path.parent.name for path in source.glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()


def test_changelog_fragments_are_well_named():
    """A fragment says what kind of change it is, and is not empty."""
    for fragment in (ROOT / "changelog").glob("*.md"):
        if fragment.name == "README.md":
            continue
        assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed|deprecated)\.md", fragment.name), fragment.name
        assert fragment.read_text(encoding="utf-8").strip()
