"""Writes what is made from the settings' declarations: the reference page and the sample files.

python docs/generate.py          write them
python docs/generate.py --check  write nothing; exit 1 and name those that are stale
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from distributor.config import Config  # noqa: E402
from distributor.settings import Settings, describe, sample  # noqa: E402
from origin.config import OriginConfig  # noqa: E402

_EDGE_EXAMPLES = {
    "buckets": ["media", "archive"],
    "worker_id": 7,
    "origin.sources.name": "origin",
    "origin.sources.headers": {"Authorization": "Bearer …"},
    "cache.max_object": "50G",
}
_ORIGIN_EXAMPLES = {
    "edges": [{"url": "http://127.0.0.1:3335", "token_file": "./var/edge/operator.token"}],
    "rate_limit": {"requests": 600, "per": "60s"},
    "limits.max_upload": "100G",
}

_INTRODUCTION = """\
# Settings

Made from `distributor/config.py` and `origin/config.py` by `make docs`; change those, not this page.
Annotated files to begin with: [config/distributor.yaml](../config/distributor.yaml) and
[config/origin.yaml](../config/origin.yaml), which hold the defaults.

**Four places**, the strongest first:

1. `--set cache.limit=1G` on the command line, as often as needed;
2. the environment: `DISTRIBUTOR__CACHE__LIMIT=1G`, `ORIGIN__API__PORT=8080`;
3. the YAML file named by `--config`;
4. the default.

Members of a list are named by number, from 0: `--set origin.sources.1.url=http://b.example/{id}` adds a
second source, `DISTRIBUTOR__BUCKETS=media,archive` gives a list of texts.

**Sizes** are bytes, or a number with K, M, G or T, in powers of 1024. **Durations** are seconds, or a
number with ms, s, m, h or d. **Paths** are relative to the directory the program is started in.

**Secrets** are never written out. One marked *secret* may be given as `<key>_file`, the path of a file
that holds it: `auth.admin_password_file`, `origin.sources.0.headers_file` (a YAML mapping).

`distributor check-config --config FILE` and `origin check-config --config FILE` print the settings in
force, or every problem with its key, and exit 2 then. An unknown key is a problem, never ignored.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(group: type[Settings]) -> str:
    lines = ["| key | takes | default | |", "|---|---|---|---|"]
    for row in describe(group):
        key = f"**`{row.key}`**" if row.group else f"`{row.key}`"
        default = row.default if row.default in ("", "required") else f"`{_cell(row.default)}`"
        lines.append(f"| {key} | {row.kind} | {default} | {_cell(row.help)} |")
    return "\n".join(lines) + "\n"


def _file(title: str, group: type[Settings], examples: dict[str, object]) -> str:
    head = f"# {title} These are the defaults; `make docs` writes this file.\n"
    return head + sample(group, examples)


def documents() -> dict[Path, str]:
    """Return what each file is to hold, by its path below the root."""
    page = (
        f"{_INTRODUCTION}\n## The edge: `distributor serve`\n\n{_table(Config)}"
        f"\n## The origin: `origin serve`\n\n{_table(OriginConfig)}"
    )
    return {
        Path("docs/configuration.md"): page,
        Path("config/distributor.yaml"): _file("Settings of the edge.", Config, dict(_EDGE_EXAMPLES)),
        Path("config/origin.yaml"): _file("Settings of the origin.", OriginConfig, dict(_ORIGIN_EXAMPLES)),
    }


def stale(root: Path) -> list[str]:
    """Return the files below `root` that do not hold what they should; may be empty."""
    return [
        str(path)
        for path, text in documents().items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        found = stale(ROOT)
        for name in found:
            print(f"{name} is stale: make docs", file=sys.stderr)
        return 1 if found else 0
    for path, text in documents().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
