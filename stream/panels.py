"""Grafana dashboards as plain data: queries, panels, variables, and how they are laid out. Knows no metric."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal, TypeAlias

Json: TypeAlias = dict[str, object]
Kind: TypeAlias = Literal["timeseries", "stat", "table"]

PROMETHEUS: Final[Json] = {"type": "prometheus", "uid": "affect-prometheus"}
POSTGRES: Final[Json] = {"type": "grafana-postgresql-datasource", "uid": "affect-postgres"}
FOLDER_UID: Final = "affectstream"
FOLDER_TITLE: Final = "affectstream"

SCHEMA_VERSION: Final = 39
"""Of the dashboard model: that of Grafana 11, which newer ones read and bring up to date themselves."""
COLUMNS: Final = 24


@dataclass(frozen=True, slots=True)
class Promql:
    """A PromQL query. `legend`: as Grafana has it, `{{label}}`."""

    text: str
    legend: str = ""

    def target(self, ref: str, kind: Kind) -> Json:
        made: Json = {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": self.text,
            "legendFormat": self.legend or "__auto",
        }
        return made | ({"range": True} if kind == "timeseries" else {"instant": True, "range": False}) | (
            {"format": "table"} if kind == "table" else {}
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sql:
    """An SQL query; a time series has a column `time`, and `metric` where there are several lines."""

    text: str

    def target(self, ref: str, kind: Kind) -> Json:
        form = "time_series" if kind == "timeseries" else "table"
        return {
            "refId": ref, "datasource": POSTGRES, "format": form, "rawQuery": True, "editorMode": "code",
            "rawSql": self.text,
        }  # fmt: skip


Query: TypeAlias = Promql | Sql


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `about`: what it shows and when to worry. `unit`: Grafana's name. `steps`: (from value, colour)."""

    title: str
    about: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 7
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    overrides: tuple[Json, ...] = ()

    def json(self, number: int, x: int, y: int) -> Json:
        defaults: Json = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in self.steps]},
        }
        if self.kind == "timeseries":
            defaults["custom"] = {"drawStyle": "line", "fillOpacity": 0, "showPoints": "never", "spanNulls": False}
        return {
            "id": number,
            "title": self.title,
            "description": self.about,
            "type": self.kind,
            "datasource": PROMETHEUS if isinstance(self.queries[0], Promql) else POSTGRES,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": {} if self.kind != "timeseries" else {"tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [q.target("ABCDEFGH"[k], self.kind) for k, q in enumerate(self.queries)],
        }


@dataclass(frozen=True, slots=True)
class Variable:
    """A drop-down at the top. `choice`: what it offers. `every`: "All" may be picked, and is at first."""

    name: str
    label: str
    choice: Query
    every: bool = False

    def json(self) -> Json:
        prometheus = isinstance(self.choice, Promql)
        query: object = {"query": self.choice.text, "refId": "variable"} if prometheus else self.choice.text
        made: Json = {
            "name": self.name, "label": self.label, "type": "query", "query": query, "definition": self.choice.text,
            "datasource": PROMETHEUS if prometheus else POSTGRES, "refresh": 2, "sort": 1,
            "includeAll": self.every, "multi": False,
        }  # fmt: skip
        return made | ({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if self.every else {})


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard. `name` is its file's, and with `affect-` in front its uid."""

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = field(default=())
    since: str = "now-1h"

    @property
    def uid(self) -> str:
        return f"affect-{self.name}"

    def json(self) -> Json:
        """The dashboard as Grafana's API and its provisioning take it.

        One tag, `build-` and eight hex digits, is a digest of all the rest: `push` knows by it what lies there.
        """
        made: Json = {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "schemaVersion": SCHEMA_VERSION,
            "timezone": "utc",
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": self.since, "to": "now"},
            "templating": {"list": [v.json() for v in self.variables]},
            "annotations": {"list": []},
            "panels": list(_placed(self.panels)),
        }
        digest = sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:8]
        return made | {"tags": ["affectstream", f"build-{digest}"]}


def _placed(panels: Sequence[Panel]) -> Iterator[Json]:
    """Left to right, a new line where one is full."""
    x = y = lowest = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, lowest
        yield panel.json(number, x, y)
        x, lowest = x + panel.width, max(lowest, y + panel.height)
