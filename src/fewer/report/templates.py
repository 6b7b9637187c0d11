"""The templates of HTML pages: everything that they show is escaped, and a name that is not given is an error."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fewer.report import words


def environment(*packages: str) -> Environment:
    """The templates in the folders of these packages, the first first, with the report's words and filters."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    found.filters["literal"] = lambda text: json.dumps(text, ensure_ascii=False)
    found.filters["quoted"] = shlex.quote
    found.globals["words"] = words
    return found
