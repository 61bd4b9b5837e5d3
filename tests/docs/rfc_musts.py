"""The sentences of an RFC that demand something: those with MUST, SHALL or
REQUIRED, each with the section it stands in.

Page ends are taken out, lines of a paragraph joined, and the paragraph cut at
full stops, colons and semicolons that a capital letter follows.  The sentence
that says what the words mean, and the index at the end, are left out.
"""

import re

WORDS = re.compile(r"\b(MUST|SHALL|REQUIRED)\b")
PAGE_END = re.compile(r"^\S.*\[Page \d+\]$|^RFC \d+ .*\d{4}$")
HEADING = re.compile(r"^(?:(\d+(?:\.\d+)*)\.?|Appendix ([A-Z])\.?|"
                     r"([A-Z](?:\.\d+)+)\.?)\s+\S")
CONTENTS = re.compile(r"\.\s*\.\s*\.|\. \d+$")
INDEX = re.compile(r"\.{6}|, Paragraph \d|code\) Section \d")


def is_demand(sentence):
    return (WORDS.search(sentence) and not INDEX.search(sentence) and
            not re.search(r'"(MUST|SHALL|REQUIRED)"', sentence))


def cut(paragraph):
    text = " ".join(" ".join(paragraph).split())
    return re.split(r'(?<=[.:;])\s+(?=[A-Z("*])', text)


def sentences(path):
    """[(section, sentence)] in the order of the text."""
    with open(path, encoding="latin-1") as f:
        lines = [line for line in f.read().replace("\f", "\n").split("\n")
                 if not PAGE_END.match(line)]
    section, found, paragraph, after_blank = "", [], [], False

    def end():
        found.extend((section, s) for s in cut(paragraph) if is_demand(s))
        paragraph.clear()

    for line in lines:
        heading = HEADING.match(line)
        if heading and not CONTENTS.search(line):
            end()
            section = next(g for g in heading.groups() if g)
        elif not line.strip():
            after_blank = True
        else:
            # A paragraph may go on behind the end of a page.
            if after_blank and paragraph and not (
                    re.match(r"^\s*[a-z]", line) and
                    not re.search(r"[.:;]$", paragraph[-1])):
                end()
            after_blank = False
            paragraph.append(line.strip())
    end()
    return found
