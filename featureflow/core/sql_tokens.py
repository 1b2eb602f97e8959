"""The words of a SQL expression: split, checked against what is allowed, and written again for Polars.

Polars' SQL reaches files, other tables, whole-column functions and the clock, and it dies of a stack overflow on a
long chain of operators. So its parser gets only text that was rebuilt here, word by word, from a list of what one
row-wise scalar expression may hold. What is not on the list is refused with the reason.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

MAX_CHARACTERS = 4096
MAX_DEPTH = 64
#: Polars 2.1 takes quadratic time in a chain of operators (2,000: 11 s), and 2,000 overflow a thread's stack
MAX_OPERATORS = 256

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<comment>--|/\*)
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[^\W\d]\w*)
    | (?P<operator>::|<=>|<=|>=|<>|!=|==|\|\||//|!~\*|!~|~\*|\^@|[-+*/%<>=~&|(),\[\]])
    """,
    re.VERBOSE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of one row, as Polars' SQL names them.
FUNCTIONS = _words(
    """
    abs ceil ceiling div exp floor ln log log10 log1p log2 mod pi pow power round sign sqrt cbrt
    acos asin atan atan2 cos cot sin tan degrees radians
    bit_and bit_count bit_or bit_xor
    coalesce greatest if ifnull least nullif
    date date_part date_trunc extract strftime strptime timestamp
    year quarter month week day hour minute second dayofweek
    bit_length char_length character_length concat concat_ws ends_with initcap left length lower lpad ltrim
    octet_length position regexp_like regexp_replace replace reverse right rpad rtrim split_part starts_with
    string_to_array strpos substr substring trim upper
    array_contains array_length
    cast try_cast
    """
)
#: Their results are 8 to 32 bit integers in Polars: ``extract(hour from t) * 60`` would silently wrap around
_SMALL_INTEGERS = _words(
    """
    extract date_part year quarter month week day hour minute second dayofweek bit_count bit_length char_length
    character_length length octet_length position strpos array_length
    """
)
_FRACTIONAL_FIELDS = frozenset({"epoch", "millisecond", "milliseconds", "ms", "time"})
_WHOLE_COLUMN = _words(
    """
    sum count avg mean min max median first last any all stddev stddev_samp stddev_pop std stdev var variance var_samp
    var_pop quantile quantile_cont quantile_disc mode corr covar covar_samp covar_pop array_agg string_agg
    list group_concat bool_and bool_or every product skewness kurtosis n_unique count_distinct approx_count_distinct
    arg_max arg_min max_by min_by
    """
)
_WINDOW = _words(
    "over lag lead row_number rank dense_rank percent_rank cume_dist ntile first_value last_value nth_value "
    "explode unnest"
)
_STATEMENT = _words(
    """
    select union intersect except with insert update delete create drop alter truncate copy attach detach pragma set
    exec execute call into values where having group order limit offset join exists filter within qualify lateral
    load install import export describe explain show
    """
)
_FILES = _words(
    "read_csv read_parquet read_json read_ipc read_ndjson scan_csv scan_parquet glob read_text read_blob"
)
_CLOCK = _words(
    "now current_timestamp current_date current_time localtime localtimestamp random rand uuid gen_random_uuid "
    "today getdate"
)
_GRAMMAR = _words(
    """
    and or not in is null true false like ilike rlike regexp between case when then else end as xor div escape
    distinct from
    """
)
_TYPES = {
    name: name
    for name in _words(
        """
        bool boolean tinyint smallint int integer bigint int2 int4 float real double float4 float8
        decimal numeric dec varchar text string char date time interval
        """
    )
} | {
    # times have a zone here, always; a literal without one is UTC
    "timestamp": "timestamptz",
    "timestamptz": "timestamptz",
    "datetime": "timestamptz",
    "int64": "bigint",
    "int32": "int",
    "int16": "smallint",
    "int8": "tinyint",
    "float64": "double",
    "float32": "real",
}
_LITERAL_TYPES = frozenset({"date", "timestamp", "timestamptz", "datetime", "interval"})
#: Functions in whose argument list ``from`` is part of the call
_TAKES_FROM = frozenset({"extract", "substring", "trim"})
_BINARY = _words("+ - * / % < > = <= >= <> != == <=> || // ~ !~ ~* !~* ^@ & |")
_BINARY_WORDS = frozenset({"and", "or", "xor", "div", "like", "ilike", "rlike", "regexp"})


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked expression: its text for Polars, and the columns that it names in order of appearance."""

    sql: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Token:
    kind: str
    text: str

    @property
    def low(self) -> str:
        return self.text.lower() if self.kind == "word" else ""


@dataclass(slots=True)
class _State:
    known: Collection[str]
    out: list[str] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    #: per open bracket: the bracket, the function it belongs to, and what closes it
    open: list[tuple[str, str, str]] = field(default_factory=list)
    cases: int = 0
    operators: int = 0


def check(sql: str, known: Collection[str]) -> Checked:
    """Check that the text is one row-wise scalar expression over the known columns.

    Raises
    ------
    ValueError
        With one line: what is wrong, and what to write instead where there is something.
    """
    if not sql.strip():
        raise ValueError("the expression is empty.")
    if len(sql) > MAX_CHARACTERS:
        raise ValueError(f"the expression has {len(sql)} characters; the limit is {MAX_CHARACTERS}.")
    tokens = list(_split(sql))
    state = _State(known)
    i = 0
    while i < len(tokens):
        i += _take(tokens, i, state)
        if len(state.open) + state.cases > MAX_DEPTH:
            raise ValueError(
                f"the expression is nested more than {MAX_DEPTH} deep. Use a `derive` for its parts."
            )
        if state.operators > MAX_OPERATORS:
            raise ValueError(
                f"the expression has more than {MAX_OPERATORS} operators. Use a `derive` for its parts."
            )
    if state.open:
        raise ValueError(f"'{state.open[-1][0]}' is never closed.")
    if state.cases:
        raise ValueError("CASE has no END.")
    return Checked(" ".join(state.out), tuple(state.columns))


def _split(sql: str) -> Iterable[_Token]:
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if match is None:
            raise ValueError(_bad_character(sql[position]))
        kind = str(match.lastgroup)
        if kind == "comment":
            raise ValueError("comments are not allowed in an expression; use YAML's '#'.")
        after = sql[match.end() : match.end() + 1]
        if kind == "number" and (after.isalnum() or after in ("_", ".")):
            raise ValueError(f"{sql[position : match.end() + 1]!r} begins like a number but is none.")
        if kind == "word" and after == "'":
            raise ValueError(f"{match.group()}'…' literals are not allowed; write a plain '…' string.")
        if kind != "space":
            yield _Token(kind, match.group())
        position = match.end()


def _bad_character(character: str) -> str:
    if character == ";":
        return "';' ends a statement; write one expression."
    if character in "'\"":
        return f"a {character} is never closed."
    if character == ".":
        return "'.' is not allowed: name columns alone, without a table or a struct before them."
    return f"{character!r} is not allowed in an expression."


def _take(tokens: list[_Token], i: int, state: _State) -> int:
    """Check one token, write it out; returns how many tokens were used."""
    token = tokens[i]
    if token.kind == "string":
        state.out.append(token.text)
    elif token.kind == "number":
        state.out.append(_number(token.text))
    elif token.kind == "quoted":
        _column(token.text[1:-1].replace('""', '"'), state, quoted=True)
    elif token.kind == "operator":
        return _operator(tokens, i, state)
    else:
        return _word(tokens, i, state)
    return 1


def _number(text: str) -> str:
    if "." in text and "e" not in text.lower():
        return (
            text + "e0"
        )  # Polars reads 0.5 as a decimal of 38 digits, and then everything it touches is one
    if text.isdigit() and int(text) >= 2**63:
        raise ValueError(f"{text} does not fit into int64; write {text}.0 for a float64.")
    return text


def _column(name: str, state: _State, *, quoted: bool = False) -> None:
    if name not in state.known:
        close = difflib.get_close_matches(name, list(state.known), n=1, cutoff=0.6)
        folded = [known for known in state.known if known.lower() == name.lower()]
        hint = f" Did you mean {(folded or close)[0]!r}?" if folded or close else ""
        text = " (text is written in single quotes)" if quoted else ""
        raise ValueError(f"there is no column {name!r}{text}.{hint} Known: {', '.join(sorted(state.known))}.")
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        raise ValueError(f"column {name!r} would be read as a pattern over all columns; rename it.")
    state.columns[name] = None
    state.out.append('"' + name.replace('"', '""') + '"')


def _operator(tokens: list[_Token], i: int, state: _State) -> int:
    text = tokens[i].text
    if text == "*" and not (_ends_operand(tokens, i - 1) and _starts_operand(tokens, i + 1)):
        raise ValueError("'*' for all columns is not allowed; as a product it stands between two values.")
    if text in ("(", "["):
        state.open.append((text, "", ""))
    elif text in (")", "]"):
        if not state.open or state.open[-1][0] != {")": "(", "]": "["}[text]:
            raise ValueError(f"'{text}' closes nothing.")
        closing = state.open.pop()[2]
        state.out.append(text + closing)
        return 1
    elif text == "," and not state.open:
        raise ValueError("',' at the top: write one expression, not a list.")
    elif text == "::":
        state.out.append("::")
        return 1 + _type(tokens, i + 1, state)
    elif text in _BINARY:
        state.operators += 1
    state.out.append(text)
    return 1


def _ends_operand(tokens: list[_Token], i: int) -> bool:
    if i < 0:
        return False
    token = tokens[i]
    return token.kind in ("string", "number", "quoted") or token.text in (")", "]") or token.kind == "word"


def _starts_operand(tokens: list[_Token], i: int) -> bool:
    return i < len(tokens) and (tokens[i].kind != "operator" or tokens[i].text in ("(", "-", "+"))


def _word(tokens: list[_Token], i: int, state: _State) -> int:
    word, low = tokens[i].text, tokens[i].low
    following = tokens[i + 1] if i + 1 < len(tokens) else _Token("end", "")
    if following.text == "(" and low not in _GRAMMAR:
        return _call(tokens, i, state)
    if low in _LITERAL_TYPES and following.kind == "string":
        state.out.append("timestamptz" if _TYPES[low] == "timestamptz" else low)
        return 1
    if low == "at" and [t.low for t in tokens[i + 1 : i + 3]] == ["time", "zone"]:
        state.out.append("at time zone")
        return 3
    inside = state.open[-1][1] if state.open else ""
    if low in ("for", "both", "leading", "trailing") and inside in ("substring", "trim"):
        state.out.append(low)
        return 1
    if low == "as":
        if inside not in ("cast", "try_cast"):
            raise ValueError("AS is not allowed: the name comes from the YAML key.")
        state.out.append("as")
        return 1 + _type(tokens, i + 1, state)
    if low == "from" and not (inside in _TAKES_FROM or (i and tokens[i - 1].low == "distinct")):
        raise ValueError("FROM is not allowed: an expression can't read other tables or files.")
    if low == "is":
        # Polars gives null for `null is true`; SQL, and this form of it, give false
        negated = following.low == "not"
        truth = tokens[i + 1 + negated].low if i + 1 + negated < len(tokens) else ""
        if truth in ("true", "false"):
            state.out.append(f"is {'' if negated else 'not '}distinct from {truth}")
            return 2 + negated
    if low in _GRAMMAR:
        state.cases += {"case": 1, "end": -1}.get(low, 0)
        if state.cases < 0:
            raise ValueError("END without CASE.")
        state.operators += low in _BINARY_WORDS
        state.out.append(low)
        return 1
    if inside == "extract" and following.low == "from":
        state.out.append(low)
        return 1
    if word not in state.known:
        _refuse(low)
    _column(word, state)
    return 1


def _refuse(low: str) -> None:
    """Say why a word that is no column can't be used, if there is more to say than that it is unknown."""
    if low in _STATEMENT:
        raise ValueError(f"{low.upper()} is not allowed: write one scalar expression, no query or statement.")
    if low in _WINDOW:
        raise ValueError(
            f"{low.upper()} is not allowed: an expression sees one row; windows belong in `aggregate`."
        )
    if low in _CLOCK:
        raise ValueError(
            f"{low} is not allowed: a feature is a function of its row, the same in every build."
        )


def _call(tokens: list[_Token], i: int, state: _State) -> int:
    low = tokens[i].low
    if low not in FUNCTIONS:
        _refuse(low)
        if low in _WHOLE_COLUMN:
            instead = {
                "min": " For the smaller of two values write least(a, b).",
                "max": " For the larger of two values write greatest(a, b).",
            }.get(low, "")
            raise ValueError(
                f"{low}() aggregates many rows; an expression sees one. Use `aggregate`.{instead}"
            )
        if low in _FILES or low == "columns":
            raise ValueError(f"{low}() is not allowed: an expression can't read files or other columns.")
        close = difflib.get_close_matches(low, FUNCTIONS, n=1)
        hint = f" Did you mean {close[0]}()?" if close else ""
        raise ValueError(f"there is no function {low}().{hint}")
    if low in _SMALL_INTEGERS and not _fractional(tokens, i):
        state.out.append(f"cast({low}(")
        state.open.append(("(", low, " as bigint)"))
    else:
        state.out.append(f"{low}(")
        state.open.append(("(", low, ""))
    return 2


def _fractional(tokens: list[_Token], i: int) -> bool:
    if tokens[i].low not in ("extract", "date_part") or i + 2 >= len(tokens):
        return False
    return tokens[i + 2].text.strip("'").lower() in _FRACTIONAL_FIELDS


def _type(tokens: list[_Token], i: int, state: _State) -> int:
    """Check a type name after ``::`` or ``as``; returns how many tokens it has."""
    low = tokens[i].low if i < len(tokens) else ""
    if low not in _TYPES:
        given = repr(tokens[i].text) if i < len(tokens) else "nothing"
        raise ValueError(f"{given} is not a type that a cast can have. Known: {', '.join(sorted(_TYPES))}.")
    used = 1
    name = _TYPES[low]
    if low == "double" and i + 1 < len(tokens) and tokens[i + 1].low == "precision":
        used += 1
    if low == "timestamp" and [t.low for t in tokens[i + 1 : i + 4]] in (
        ["with", "time", "zone"],
        ["without", "time", "zone"],
    ):
        used += 3
    size = "".join(t.text for t in tokens[i + used : i + used + 5])
    match = re.match(r"\(\d+(,\d+)?\)", size)
    if match:
        used += 5 if match.group(1) else 3
        name += match.group() if name in ("decimal", "numeric", "dec") else ""
    state.out.append(name)
    return used
