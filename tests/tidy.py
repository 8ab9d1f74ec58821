#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the house rules of docs/STYLE.md that a machine can check.

    tests/tidy.py [PATH...]     the whole tree, or only these files (paths from the root)

Prints `file:line: message`. Exits 1 on an error; `warning:` lines alone do not fail.
Exceptions, each with its reason, are in tests/tidy_allow.txt.
"""

import bisect
import collections
import os
import re
import sys
from pathlib import Path

FILE_LINES_MAX = 700
FUNCTION_LINES_WARN = 70
FUNCTION_LINES_MAX = 140
LONG_FUNCTIONS_MAX = 25  # functions of the product between the two
COLUMNS_MAX = 100

# A file of rank N includes its own directory and those of lower ranks.
RANKS = {
    "common/base": 0,
    "common/proto": 1,
    "common/tls": 1,
    "common/rt": 1,
    "common/obs": 1,
    "common/net": 2,
    "common/mesh": 3,
    "common/l7": 4,
    "common/proc": 4,
    "ztun": 5,
    "waypoint": 5,
    "ctl": 5,
}
UNIT_LAYERS = {d.rsplit("/", maxsplit=1)[-1]: d for d in RANKS}
GENERATED_HEADERS = {"version.h"}

# Protocol code and the decisions of L7 are pure: no descriptors, no clock, no randomness of their
# own.
PURE = ("common/proto", "common/l7")
IMPURE = re.compile(
    r"(sys/(socket|epoll|timerfd|eventfd|random|time|uio)|unistd|poll|time|fcntl|signal"
    r"|pthread|liburing|netdb)\.h$"
)
# Libraries that only some directories may see.
LIBRARIES = [
    (re.compile(r"^openssl/"), ("common/base", "common/proto", "common/rt", "common/obs")),
    (
        re.compile(r"^(yaml|jansson)\.h$"),
        ("common/base", "common/proto", "common/tls", "common/rt", "common/obs", "common/net"),
    ),
    (
        re.compile(r"^liburing"),
        ("common/base", "common/proto", "common/tls", "common/obs", "common/net", "common/mesh",
         "common/l7", "ztun", "waypoint", "ctl"),
    ),
]

BANNED = {
    "strcpy": "a slice, memcpy with a checked length or snprintf",
    "strcat": "snprintf or a buf",
    "strncpy": "memcpy with a checked length",
    "strncat": "snprintf or a buf",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "atoi": "slice_u64() or strtol() with checks",
    "atol": "strtol() with checks",
    "atoll": "strtoll() with checks",
    "gets": "fgets",
    "strtok": "slice functions",
    "strtok_r": "slice functions",
}

SKIP_DIRS = {".git", "build", ".venv", "venv", "__pycache__", ".pytest_cache", "node_modules",
             "target", ".cache"}
TEXT_SUFFIXES = {".c", ".h", ".cc", ".def", ".py", ".sh", ".cmake", ".md", ".yaml", ".yml",
                 ".txt", ".toml", ".json", ".supp", ".proto", ".rs"}
SPDX_SUFFIXES = {".c", ".h", ".cc", ".def", ".py", ".sh", ".cmake", ".proto", ".rs", ".toml"}
SPDX_NAMES = {"CMakeLists.txt", "Makefile", "run", "debian-packages.txt"}
# Inputs of tests and measured results are what they are.
DATA_DIRS = ("tests/fuzz/corpus/", "tests/data/", "tests/e2e/data/", "bench/results/")

SPDX = "SPDX-License-Identifier: Apache-2.0"
TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL
)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
BLOCK_HEAD = re.compile(r"\b(if|for|while|switch|[A-Z][A-Z0-9_]*_EACH(?:_[A-Z]+)?)\s*\(")


def blank(text):
    return re.sub(r"[^\n]", " ", text)


class Source:
    """A C or C++ file: its text, and the text without comments and the insides of strings."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.block_comments = []
        self.code = TOKENS.sub(self._strip, text)
        self.plain = DIRECTIVE.sub(lambda m: blank(m.group()), self.code)
        self.starts = [0] + [m.end() for m in re.finditer("\n", text)]

    def _strip(self, match):
        token = match.group()
        if token.startswith("/*"):
            self.block_comments.append(match.start())
        if token[0] in "\"'":
            return token[0] + blank(token[1:-1]) + token[-1]
        return blank(token)

    def line(self, offset):
        return bisect.bisect_right(self.starts, offset)


def anchors_of(markdown):
    """The anchors that the headings of a Markdown text have: lower case, hyphens for blanks."""
    for match in HEADING.finditer(FENCE.sub(lambda m: blank(m.group()), markdown)):
        text = LINK.sub(lambda m: m.group()[1:].split("]")[0], match.group(1))
        yield re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def directory_of(path):
    """The layer directory a file belongs to, or None. A unit test counts as part of its layer."""
    parts = path.split("/")
    if parts[:2] == ["tests", "unit"] and len(parts) > 3:
        return UNIT_LAYERS.get(parts[2])
    if parts[0] == "common" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 and parts[0] in RANKS else None


def closing(text, start, opener="(", closer=")"):
    """The offset behind the bracket that closes the one at `start`, or -1."""
    depth = 0
    for match in re.compile("[" + re.escape(opener + closer) + "]").finditer(text, start):
        depth += 1 if match.group() == opener else -1
        if depth == 0:
            return match.end()
    return -1


def next_visible(text, start):
    match = re.compile(r"\S").search(text, start)
    return (match.start(), match.group()) if match else (len(text), "")


class Checker:
    def __init__(self, root, allow=""):
        self.root = Path(root)
        self.errors = []
        self.warnings = []
        self.long_functions = []
        self.prototypes = []
        self.words = collections.Counter()
        self.allowed = {}
        for line in allow.splitlines():
            if line.strip() and not line.startswith("#"):
                rule, what, reason = (line.split(None, 2) + ["", "", ""])[:3]
                if not reason:
                    self.errors.append(("tests/tidy_allow.txt", 1, f"no reason for '{line}'"))
                self.allowed[(rule, what)] = reason

    def error(self, path, line, message):
        self.errors.append((path, line, message))

    def is_allowed(self, rule, what):
        return (rule, what) in self.allowed

    def check(self, path, text):
        name = os.path.basename(path)
        suffix = os.path.splitext(name)[1]
        self.check_text(path, name, suffix, text)
        if suffix == ".md":
            self.check_links(path, text)
        if suffix in (".c", ".h", ".cc", ".def"):
            source = Source(path, text)
            self.check_includes(source)
            self.check_comments(source)
            self.check_words(source)
            self.check_braces(source)
            self.check_lengths(source)
            self.words.update(re.findall(r"\w+", source.code))
            if suffix == ".h" and directory_of(path) is not None:
                self.prototypes += [(path, line, name) for name, line in prototypes(source)]
            if suffix == ".h" and not re.search(r"^#pragma once$", text, re.MULTILINE):
                self.error(path, 1, "header without #pragma once")

    def check_links(self, path, text):
        """Relative links lead to files, their fragments to headings."""
        text = FENCE.sub(lambda m: blank(m.group()), text)
        for match in LINK.finditer(text):
            where = text.count("\n", 0, match.start()) + 1
            target, _, fragment = match.group(1).partition("#")
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue  # a URL
            file = self.root / os.path.dirname(path) / target if target else self.root / path
            if not file.exists():
                self.error(path, where, f"link to {match.group(1)}: no such file")
            elif fragment and file.suffix == ".md":
                if fragment not in anchors_of(file.read_text()):
                    self.error(path, where, f"link to {match.group(1)}: no such heading")

    def check_text(self, path, name, suffix, text):
        head = text[:400].split("\n")[:4]
        if suffix in SPDX_SUFFIXES or name in SPDX_NAMES or text.startswith("#!"):
            if not any(SPDX in line for line in head):
                self.error(path, 1, f"no '{SPDX}' at the top")
        if not text:
            return
        if not text.endswith("\n"):
            self.error(path, text.count("\n") + 1, "no newline at the end of the file")
        elif text.endswith("\n\n"):
            self.error(path, text.count("\n"), "blank line at the end of the file")
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line and name != "Makefile":
                self.error(path, number, "tab")
            if line.endswith((" ", "\r")):
                self.error(path, number, "trailing blank")
            if suffix in (".c", ".h", ".cc") and len(line) > COLUMNS_MAX:
                # clang-format cannot break a long string
                if '"' not in line:
                    self.error(path, number, f"longer than {COLUMNS_MAX} columns")

    def check_includes(self, source):
        directory = directory_of(source.path)
        is_unit_test = source.path.startswith("tests/unit/")
        for match in INCLUDE.finditer(source.text):
            if source.code[match.start():match.end()].strip() == "":
                continue  # in a comment
            where = source.line(match.start())
            kind, target = match.groups()
            if kind == "<":
                self.check_library(source.path, where, directory, is_unit_test, target)
                continue
            if target in GENERATED_HEADERS:
                continue
            if target.startswith((".", "/")) or "/../" in target or "/" not in target:
                self.error(source.path, where, f'include "{target}" is not root-relative')
                continue
            if not (self.root / target).exists() and not target.endswith(".pb-c.h"):
                self.error(source.path, where, f'include "{target}": no such file in the tree')
            self.check_layer(source.path, where, directory, is_unit_test, target)

    def check_library(self, path, where, directory, is_unit_test, target):
        if directory is None or is_unit_test:
            return
        if directory in PURE and IMPURE.search(target):
            self.error(path, where, f"<{target}> in {directory}, which is pure")
        for pattern, forbidden in LIBRARIES:
            if pattern.search(target) and directory in forbidden:
                self.error(path, where, f"<{target}> does not belong in {directory}")

    def check_layer(self, path, where, directory, is_unit_test, target):
        theirs = directory_of(target)
        if target.endswith("_priv.h") and not path.startswith("tests/"):
            if os.path.dirname(target) != os.path.dirname(path):
                self.error(path, where, f'"{target}" is private to {os.path.dirname(target)}')
        if directory is None:
            if theirs is None and path.startswith(tuple(f"{d}/" for d in RANKS)):
                self.error(path, where, f'include "{target}" leaves the layers')
            return
        if theirs is None:
            if not (is_unit_test and target.startswith("tests/")):
                self.error(path, where, f'include "{target}" leaves the layers')
        elif theirs != directory and RANKS[theirs] >= RANKS[directory]:
            how = "upward" if RANKS[theirs] > RANKS[directory] else "sideways"
            self.error(path, where, f'include "{target}" goes {how} from {directory}')

    def check_comments(self, source):
        for offset in source.block_comments:
            self.error(source.path, source.line(offset), "/* */ comment; use //")

    def check_words(self, source):
        for match in re.finditer(r"\b([a-z_]+)\s*\(", source.code):
            word = match.group(1)
            if word in BANNED and source.code[max(0, match.start() - 2):match.start()] != "->":
                self.error(source.path, source.line(match.start()),
                           f"{word}() is banned: use {BANNED[word]}")
        for match in re.finditer(r"\btypedef\b[^;{]*", source.plain):
            where = source.line(match.start())
            statement = match.group()
            end = match.end()
            is_struct = re.match(r"typedef\s+(const\s+)?(struct|union|enum)\b", statement)
            if end < len(source.plain) and source.plain[end] == "{":
                end = closing(source.plain, end, "{", "}")
                statement += source.plain[end:source.plain.find(";", end)]
            if is_struct and "(" not in statement:
                self.error(source.path, where, "typedef of a struct, union or enum")
            if re.search(r"_t\s*\)?\s*(\([^()]*\))?\s*$", statement):
                self.error(source.path, where, "a type of our own that ends in _t")
        for match in re.finditer(r"\b(?:struct|union|enum)\s+(\w+_t)\s*\{", source.plain):
            self.error(source.path, source.line(match.start()),
                       f"{match.group(1)}: a type of our own that ends in _t")

    def check_braces(self, source):
        code = source.plain
        for match in BLOCK_HEAD.finditer(code):
            end = closing(code, match.end() - 1)
            if end < 0:
                continue
            _, follows = next_visible(code, end)
            if follows == "{":
                continue
            before = code[:match.start()].rstrip()[-1:]
            if match.group(1) == "while" and follows == ";" and before == "}":
                continue  # do { } while (...);
            self.error(source.path, source.line(match.start()), f"{match.group(1)} without braces")
        for match in re.finditer(r"\b(else|do)\b", code):
            start, follows = next_visible(code, match.end())
            if follows == "{":
                continue
            if match.group() == "else" and re.compile(r"if\b").match(code, start):
                continue
            self.error(source.path, source.line(match.start()), f"{match.group()} without braces")

    def check_lengths(self, source):
        path = source.path
        is_test = path.startswith("tests/")
        n_lines = source.text.count("\n")
        if n_lines > FILE_LINES_MAX and not self.is_allowed("file-length", path):
            self.error(path, FILE_LINES_MAX, f"{n_lines} lines, more than {FILE_LINES_MAX}")
        if is_test:
            return
        for name, first, last in functions(source):
            n_lines = last - first + 1
            if n_lines <= FUNCTION_LINES_WARN:
                continue
            if self.is_allowed("function-length", f"{path}:{name}"):
                continue
            if n_lines > FUNCTION_LINES_MAX:
                self.error(path, first, f"{name}() has {n_lines} lines")
            else:
                self.warnings.append((path, first, f"{name}() has {n_lines} lines"))
                self.long_functions.append(name)

    def finish(self, is_whole_tree=False):
        if is_whole_tree:
            for path, line, name in self.prototypes:
                if self.words[name] <= 2:  # its prototype and its definition
                    self.error(path, line, f"{name}() is used nowhere")
        if len(self.long_functions) > LONG_FUNCTIONS_MAX:
            self.error("tests/tidy.py", 1,
                       f"{len(self.long_functions)} functions of more than {FUNCTION_LINES_WARN} "
                       f"lines; the cap is {LONG_FUNCTIONS_MAX}")


def functions(source):
    """(name, first line, last line) of each function definition at file level."""
    code = source.plain
    start = 0  # of the current declaration
    offset = 0
    for_brace = re.compile(r"[{;]")
    while True:
        match = for_brace.search(code, offset)
        if match is None:
            return
        if match.group() == ";":
            start = offset = match.end()
            continue
        end = closing(code, match.start(), "{", "}")
        if end < 0:
            return
        head = code[start:match.start()]
        name = re.search(r"(\w+)\s*\(", head)
        if name and "=" not in head and re.search(r"\)[\s\w()]*$", head):
            first = start + len(head) - len(head.lstrip())
            yield name.group(1), source.line(first), source.line(end - 1)
            start = end
        elif "(" not in head and not re.match(r"\s*(static\s+|const\s+|extern\s+)*(struct|union|enum)",
                                              head):
            start = end
        offset = end
        if next_visible(code, end)[1] != ";" and "=" not in head:
            start = end


def prototypes(source):
    """(name, line) of each function that a header declares at file level."""
    code = source.plain
    while re.search(r"\{[^{}]*\}", code):
        code = re.sub(r"\{[^{}]*\}", lambda m: blank(m.group()[:-1]) + ";", code)
    for match in re.finditer(r"[^;]+;", code):
        name = re.search(r"(\w+)\s*\(", match.group())
        if name and not re.match(r"\s*(typedef|static)\b", match.group()):
            yield name.group(1), source.line(match.start() + name.start())


def tree(root):
    for where, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS)
        for name in sorted(names):
            path = os.path.relpath(os.path.join(where, name), root)
            suffix = os.path.splitext(name)[1]
            if path.startswith(DATA_DIRS) or os.path.islink(os.path.join(where, name)):
                continue
            if suffix in TEXT_SUFFIXES or name in SPDX_NAMES:
                yield path


def main(arguments):
    root = Path(__file__).resolve().parent.parent
    allow = root / "tests" / "tidy_allow.txt"
    checker = Checker(root, allow.read_text() if allow.exists() else "")
    paths = [os.path.relpath(os.path.abspath(a), root) for a in arguments] or list(tree(root))
    for path in paths:
        try:
            text = (root / path).read_text()
        except UnicodeDecodeError:
            checker.error(path, 1, "not UTF-8")
            continue
        except FileNotFoundError:
            continue  # removed while we walked
        checker.check(path, text)
    checker.finish(is_whole_tree=not arguments)
    for path, line, message in sorted(checker.warnings):
        print(f"{path}:{line}: warning: {message}")
    for path, line, message in sorted(checker.errors):
        print(f"{path}:{line}: {message}")
    print(f"tidy: {len(paths)} files, {len(checker.errors)} errors, "
          f"{len(checker.warnings)} warnings")
    return 1 if checker.errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
