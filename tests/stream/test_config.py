"""Settings: files, overrides, and one clear line for whatever cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import AffectError
from operators.clock import Lateness
from operators.window import WindowSpec
from stream.config import Config, load_config
from stream.errors import UsageError


def load(tmp_path: Path, text: str, **env: str) -> Config:
    path = tmp_path / "affect.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), env)


def test_defaults_work_as_they_are() -> None:
    config = load_config(None, {})
    assert config == Config()
    assert config.topic == "affect.posts.finance.v1"
    assert config.lateness == Lateness(30_000, 600_000, 10_000)
    assert config.window_specs[0] == WindowSpec(60_000, 60_000)


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    config = load(
        tmp_path, 'domain = "crisis"\n[time]\ndisorder = "0s"\nlateness = "1h"\n[windows]\nsizes = ["10m/5m"]\n'
    )
    assert config.topic == "affect.posts.crisis.v1"
    assert config.lateness == Lateness(0, 3_600_000, 10_000)
    assert config.window_specs == (WindowSpec(600_000, 300_000),)
    assert config.run == Config().run


def test_the_environment_overrides_the_file_with_types(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[run]\nworkers = 2\nbatch_size = 10\n[web]\nenabled = true\n",
        AFFECT_RUN__WORKERS="5",
        AFFECT_WEB__ENABLED="false",
        AFFECT_WINDOWS__SIZES="1m,5m/1m",
        AFFECT_WINDOWS__MINIMUM="7.5",
        AFFECT_PRIVACY__AUTHOR_KEY="secret",
        AFFECT_DOMAIN="social",
        AFFECT_DATA="/anywhere",
        OTHER__THING="1",
    )
    assert (config.run.workers, config.run.batch_size, config.web.enabled) == (5, 10, False)
    assert config.windows.sizes == ("1m", "5m/1m")
    assert (config.windows.minimum, config.privacy.author_key, config.domain) == (7.5, "secret", "social")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[run]\nworker = 1\n", "worker"),
        ("[nothing]\nx = 1\n", "nothing"),
        ('[run]\nworkers = "many"\n', "workers"),
        ("[run]\nworkers = 0\n", "run.workers"),
        ("[run]\nbatch_size = 1000001\n", "run.batch_size"),
        ("[input]\npartitions = 0\n", "input.partitions"),
        ('domain = "sports"\n', "domain"),
        ("[windows]\nsizes = []\n", "windows.sizes"),
        ('[windows]\nsizes = ["5m/2m"]\n', "5m/2m"),
        ('[windows]\nsizes = ["1m/5s"]\n', "1m/5s"),
        ("[windows]\nminimum = 0\n", "windows.minimum"),
        ("[windows]\nminimum = nan\n", "windows.minimum"),
        ('[windows]\npane = "0s"\n', "windows.pane: duration"),
        ('[time]\nlateness = "soon"\n', "time.lateness: duration"),
        ('[time]\ndisorder = ""\n', "time.disorder: duration"),
        ('[time]\nidle = "1"\n', "time.idle: duration"),
        ('[time]\nfuture = "x"\n', "time.future: duration"),
        ('[time]\ndedupe = "-1h"\n', "time.dedupe: duration"),
        ('[log]\nretention = "x"\n', "log.retention: duration"),
        ('[run]\ncommit_interval = "x"\n', "run.commit_interval: duration"),
        ("[web]\nport = 65536\n", "web.port"),
        ("[web]\nport = -1\n", "web.port"),
        ("[run\n", "not valid TOML"),
    ],
)
def test_what_cannot_work_is_one_line_that_names_it_and_exits_2(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(AffectError) as error:
        load(tmp_path, text)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.toml: cannot be read: No such file"):
        load_config(str(tmp_path / "nothing.toml"), {})


def test_an_override_of_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"AFFECT_RUN__WRKERS.*wrkers"):
        load_config(None, {"AFFECT_RUN__WRKERS": "2"})
