"""The facts of this machine."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from vmastore.events.types import TraceHeader
from vmastore.recorder.system import kernel_config, system_config
from vmastore.replay.world import config_of


def test_the_facts_are_this_machines() -> None:
    """Sysctls, huge pages, limits and kernel options are as the system shows them, and replay takes them."""
    config = system_config()
    assert config["max_map_count"] == int(Path("/proc/sys/vm/max_map_count").read_text())
    assert config["stack_guard_gap"] >= 0 and isinstance(config["anon_name"], bool)
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    assert config["rlimits"]["STACK"] == (-1 if soft == resource.RLIM_INFINITY else soft)
    taken = config_of(TraceHeader("t", "t", "record", config=config))
    assert taken.max_map_count == config["max_map_count"] and taken.rlimits == config["rlimits"]
    assert system_config(pid=1)["max_map_count"] == config["max_map_count"]


def test_names_of_anonymous_memory_are_probed_where_the_configuration_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trying it gives the same answer as the kernel's configuration."""
    known = kernel_config()
    if "anon_name" not in known:
        pytest.skip("this kernel does not show its configuration")
    monkeypatch.setattr("vmastore.recorder.system.kernel_config", dict)
    assert system_config()["anon_name"] == known["anon_name"]
