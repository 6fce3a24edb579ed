"""CITATION.cff is valid where it can be checked offline, and cites the version that is here."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

# Citation File Format 1.2.0: what it asks for, and of what it knows the keys that are in use here
REQUIRED = {"cff-version", "message", "title", "authors"}
KNOWN = REQUIRED | {"type", "version", "license", "references", "abstract", "keywords"}
REQUIRED_OF_A_REFERENCE = {"type", "title", "authors"}
KNOWN_OF_A_REFERENCE = REQUIRED_OF_A_REFERENCE | {"year", "identifiers"}
AUTHORS = ({"name"}, {"family-names", "given-names"})  # an entity, or a person


def check(entry, required, known):
    assert required <= entry.keys() <= known
    assert entry["authors"]
    assert all(author.keys() in AUTHORS for author in entry["authors"])
    assert all(isinstance(name, str) and name for author in entry["authors"] for name in author.values())


def test_it_is_a_citation_file():
    check(CITATION, REQUIRED, KNOWN)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    for reference in CITATION["references"]:
        check(reference, REQUIRED_OF_A_REFERENCE, KNOWN_OF_A_REFERENCE)
        assert isinstance(reference["year"], int)
        assert all(one["type"] in ("doi", "url", "swh", "other") for one in reference["identifiers"])


def test_it_cites_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CITATION["version"] == project["version"]
    assert f"\n## {project['version']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert CITATION["authors"] == project["authors"]
