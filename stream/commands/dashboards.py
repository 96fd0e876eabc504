"""`affect dashboards push | export`: the shipped Grafana dashboards, into a Grafana or into files."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from pathlib import Path

from stream.dashboard_target import DashboardTarget, DataSource, postgres_source, prometheus_source
from stream.dashboards import all_dashboards
from stream.errors import UsageError
from stream.panels import FOLDER_TITLE, FOLDER_UID
from stream.whole_file import whole_file


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    group = verbs.add_parser("dashboards", help="Grafana dashboards of the engine and of its signals")
    kinds = group.add_subparsers(dest="what", metavar="push|export", required=True)
    push = kinds.add_parser("push", help="bring them, their folder and data sources into a Grafana")
    push.add_argument("--url", required=True, metavar="URL", help="of the Grafana, such as https://grafana.example")
    push.add_argument("--token-env", metavar="ENV", default="AFFECT_GRAFANA_TOKEN", help="name of the environment "
                      "variable that holds a service account's token (default: AFFECT_GRAFANA_TOKEN)")  # fmt: skip
    push.add_argument("--prometheus", metavar="URL", default=None, help="as Grafana reaches it; without it the data "
                      "source is left as it is")  # fmt: skip
    push.add_argument("--postgres", metavar="ENV", default=None, help="name of the environment variable that holds "
                      "a connection string for Grafana; without it the data source is left as it is")  # fmt: skip
    push.add_argument("--overwrite", action="store_true", help="replace other versions that lie under the same uid")
    push.add_argument("--plain-http", action="store_true", help="allow http:// to other machines")
    push.set_defaults(run=run_push)
    export = kinds.add_parser("export", help="write them as files, for Grafana's provisioning or its import page")
    export.add_argument("--out", required=True, metavar="FOLDER", help="NAME.json of each goes there")
    export.set_defaults(run=run_export)


def run_push(args: argparse.Namespace) -> int:
    """`affect dashboards push`."""
    from stream.grafana import GrafanaApi  # requests is a third of a second that other verbs have no use for

    token = _secret(args.token_env, "--token-env")
    sources = [] if args.prometheus is None else [prometheus_source(args.prometheus)]
    if args.postgres is not None:
        sources.append(postgres_source(_secret(args.postgres, "--postgres")))
    target = GrafanaApi(args.url, token, args.plain_http)
    asyncio.run(_push(target, target.where, sources, args.overwrite))
    return 0


async def _push(target: DashboardTarget, where: str, sources: list[DataSource], overwrite: bool) -> None:
    """Folder, data sources, dashboards; a line of each. What was done before an error stays, and does no harm."""
    try:
        version = await target.health()
        sys.stderr.write(f"Grafana {version or '(version unknown)'} at {where}\n")
        sys.stderr.write(f"folder {FOLDER_TITLE}: {await target.folder(FOLDER_UID, FOLDER_TITLE)}\n")
        for source in sources:
            sys.stderr.write(f"data source {source.uid}: {await target.data_source(source)}\n")
        for dashboard in all_dashboards():
            outcome = await target.dashboard(dashboard.json(), FOLDER_UID, overwrite)
            sys.stderr.write(f"dashboard {dashboard.uid}: {outcome}\n")
    finally:
        await target.close()


def _secret(name: str, option: str) -> str:
    """What the environment variable holds.

    Raises:
        UsageError: it is no name, or the variable is empty.
    """
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(f"{option}: expected the name of an environment variable; what is in argv shows in `ps`")
    value = os.environ.get(name)
    if not value:
        raise UsageError(f"{option} {name}: expected the environment variable ${name} to be set")
    return value


def run_export(args: argparse.Namespace) -> int:
    """`affect dashboards export`."""
    folder = Path(args.out)
    if not folder.is_dir():
        raise UsageError(f"--out {folder}: expected a folder that exists")
    for dashboard in all_dashboards():
        path = folder / f"{dashboard.name}.json"
        with whole_file(path) as out:
            out.write(json.dumps(dashboard.json(), indent=1).encode() + b"\n")
        sys.stderr.write(f"{dashboard.title} -> {path}\n")
    return 0
