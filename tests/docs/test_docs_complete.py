"""Everything that a user can name is documented, generated pages are current, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re

import pyarrow as pa
import pytest
import yaml
from docs.pages import DOCS, PAGES, ROOT
from pydantic import BaseModel

from featureflow.cli.app import application
from featureflow.core import errors
from featureflow.core.sql_tokens import FUNCTIONS
from featureflow.library.aggregations import make
from featureflow.spec import datasets, encode, exports, models, splits
from featureflow.spec.checks import KINDS
from featureflow.spec.encode import EncodeStep
from featureflow.spec.encoders import ENCODERS
from featureflow.spec.exports import COMPRESSIONS, RECORD_FORMATS
from featureflow.spec.formats import GRID_FORMATS, SUFFIXES
from featureflow.spec.grid_steps import GRID_STEPS, read_step
from featureflow.spec.grids import GridStepSpec
from featureflow.spec.ops import OPS

LANGUAGE = (DOCS / "spec-language.md").read_text()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli.md", "python-api.md"])
def test_generated_page_is_current(page):
    generate = load(DOCS / "generate.py")
    assert (DOCS / page).read_text() == generate.PAGES[page](), "run: python docs/generate.py"


def test_pictures_are_current_and_shown():
    draw = load(DOCS / "img" / "draw.py")
    shown = "".join(page.read_text() for page in PAGES)
    for name, picture in draw.PICTURES.items():
        assert (DOCS / "img" / f"{name}.svg").read_text() == picture(), "run: python docs/img/draw.py"
        assert f"img/{name}.svg)" in shown


@pytest.mark.parametrize("name", sorted(OPS))
def test_aggregation_is_documented(name):
    assert re.search(rf"^\|[^|]*`{name}[`:]", LANGUAGE, re.MULTILINE)


def aggregation_rows():
    for line in LANGUAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].startswith("`"):
            for name in re.findall(r"`(\w+)", cells[0]):
                yield name, cells


SAMPLES = {"q": 0.5, "k": 3, "half_life": "1d", "of": "other"}
KINDS_OF_COLUMN = {
    "numbers": pa.float64(),
    "booleans": pa.bool_(),
    "text": pa.string(),
    "time": pa.timestamp("us", "UTC"),
}


@pytest.mark.parametrize(
    "name, cells", list(aggregation_rows()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_documented_types_are_those_of_the_library(name, cells):
    parameters = {key: SAMPLES[key] for key, p in OPS[name].params.items() if p.required}
    made = make({name: parameters} if parameters else name)
    takes, gives, empty = cells[2], cells[3], cells[4]
    for kind, column in KINDS_OF_COLUMN.items():
        accepted = takes.startswith(("any", "all but")) or kind in takes
        if not accepted:
            with pytest.raises(TypeError):
                made.output_type(column)
            continue
        given = made.output_type(column)
        if "the column's" in gives:
            assert given == column
        elif gives == "list":
            assert given == pa.list_(column)
        elif gives.startswith("map"):
            assert given == pa.map_(column, pa.int64())
        elif "of floats" in gives:
            assert given == (pa.float64() if pa.types.is_floating(column) else pa.int64())
        else:
            assert str(given).replace("double", "float64") == gives.strip("`")
    assert made.null_when_empty == (empty == "null")


def test_the_table_has_every_aggregation_once():
    names = [name for name, _ in aggregation_rows() if name in OPS]
    assert sorted(names) == sorted(OPS)


@pytest.mark.parametrize("kind", KINDS)
def test_check_is_documented(kind):
    assert f"`{kind}`" in LANGUAGE


MODELS = [
    thing
    for thing in {
        name: thing
        for module in (models, datasets, encode, exports, splits)
        for name, thing in vars(module).items()
    }.values()
    if isinstance(thing, type) and issubclass(thing, BaseModel) and thing.model_fields
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_of_the_language_is_documented(model):
    names = [
        field.alias or name
        for name, field in model.model_fields.items()
        if model not in (EncodeStep, GridStepSpec)
    ]
    names = [name for name in names if not name.startswith("<")]  # what is written beside the others
    missing = [n for n in names if not re.search(rf"[`{{ ]{n}[`:,]", LANGUAGE)]
    assert missing == []


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoder_is_documented_with_its_parameters(name):
    encoders = LANGUAGE[LANGUAGE.index("\n### Encoders\n") : LANGUAGE.index("\n### Selection\n")]
    (row,) = [line for line in encoders.splitlines() if line.startswith(f"| `{name}` |")]
    for key, parameter in ENCODERS[name].params.items():
        assert f"`{key}`" in row
        for word in parameter.schema.get("enum", ()):
            assert f"`{word}`" in row


@pytest.mark.parametrize("name", list(GRID_STEPS))
def test_step_of_a_grid_is_documented_with_its_parameters(name):
    steps = LANGUAGE[LANGUAGE.index("\n### Steps\n") : LANGUAGE.index("\n### Grids in datasets\n")]
    (row,) = [line for line in steps.splitlines() if line.startswith(f"| `{name}` |")]
    example = row.split("|")[2].strip().strip("`")
    assert read_step(yaml.safe_load(example))[0] == name
    for key, parameter in GRID_STEPS[name].params.items():
        assert f"`{key}`" in row or (key in ("op", "dim") and f"{key}: " in example), key
        words = parameter.schema.get("enum", ()) if key not in ("op", "dtype", "edge_order") else ()
        assert [word for word in words if f"`{word}`" not in row] == []


@pytest.mark.parametrize("name", GRID_FORMATS)
def test_format_of_grids_is_documented_with_its_suffixes(name):
    (row,) = [line for line in LANGUAGE.splitlines() if line.startswith(f"| `{name}` | `.")]
    assert [one for one, named in SUFFIXES.items() if named == name and f"`{one}`" not in row] == []


@pytest.mark.parametrize("name", sorted(COMPRESSIONS))
def test_format_of_shards_has_a_page_with_what_readers_need(name):
    text = (DOCS / "shards" / f"{name}.md").read_text()
    for part in ("## Read", "## On disk", "## Options", "rows_per_record", f"--format {name}"):
        assert part in text
    assert all(f"`{one}`" in text or f" {one}`" in text for one in COMPRESSIONS[name] if one != "none")


@pytest.mark.parametrize("name", sorted(COMPRESSIONS))
def test_format_of_shards_is_documented_with_its_compressions(name):
    export = LANGUAGE[LANGUAGE.index("\n### Export\n") : LANGUAGE.index("\n## Expressions\n")]
    (row,) = [line for line in export.splitlines() if line.startswith(f"| `{name}` |")]
    known = ", ".join(f"`{one}`" for one in COMPRESSIONS[name])
    assert row == f"| `{name}` | {'yes' if name in RECORD_FORMATS else 'no'} | {known} |"


def test_every_sql_function_is_documented():
    assert [name for name in sorted(FUNCTIONS) if f"`{name}`" not in LANGUAGE] == []


@pytest.mark.parametrize("name", sorted(application.commands))
def test_command_is_documented(name):
    assert f"\n## {name}\n" in (DOCS / "cli.md").read_text()


ERRORS = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_error_is_documented_with_its_exit_code(cls):
    assert re.search(
        rf"^\| `{cls.__name__}` \| {cls.exit_code} \|", (DOCS / "errors.md").read_text(), re.MULTILINE
    )


def anchor(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert fragment in {anchor(h) for h in headings}, target


def test_the_first_paragraph_says_what_differs():
    page = (DOCS / "windows-and-lookups.md").read_text()
    first = page.split("\n\n")[1]
    assert first.startswith("**A look-up includes the instant `t`; a window excludes it.**")


def test_every_page_is_reachable_from_the_index():
    indexes = [
        DOCS / "index.md",
        *(DOCS / room / "index.md" for room in ("shards", "deployment")),
        DOCS / "adr" / "README.md",
    ]
    linked = {
        (index.parent / target.split("#")[0]).resolve()
        for index in indexes
        for target in re.findall(r"\]\(([^)\s]+)\)", index.read_text())
    }
    for page in DOCS.rglob("*.md"):
        assert page.resolve() in linked or page == DOCS / "index.md" or page.parent.name == "img", page


def test_decisions_are_numbered_and_complete():
    pages = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [int(page.name[:3]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:3])}. ")
        for part in ("## Context", "## Decision", "## Consequences", "## Rejected"):
            assert part in text, page
