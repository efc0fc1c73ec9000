"""A process computes on no more threads than its container has cores, whichever way that is written down."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from vitrail.engines.threads import OnOneThread, cores


def machine(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),  # no Linux, or one without cgroups
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),  # a half is no core
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),  # but one there must be
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        (
            {  # the lowest of all that a process is in
                "proc/self/cgroup": "0::/system.slice/job.scope\n",
                "sys/fs/cgroup/system.slice/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/system.slice/job.scope/cpu.max": "400000 100000\n",
            },
            2,
        ),
        (
            {  # the host's path, in a container that sees its own group as the uppermost
                "proc/self/cgroup": "0::/docker/5f1e\n",
                "sys/fs/cgroup/cpu.max": "200000 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n2:cpu,cpuacct:/docker/5f1e\n1:cpuset:/\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (  # nothing that a broken file says can make fewer or more
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\n"},
            8,
        ),
    ],
)
def test_the_share_of_cores(tmp_path, files, expected):
    assert cores(machine(tmp_path, files)) == expected


def threads(code, **environment):
    """What torch computes on in a process that may run on one core, after some code."""
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import torch\n"
    script += f"torch.set_num_threads(3)\n{code}\nprint(torch.get_num_threads())"
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**kept, **environment}
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_torch_is_limited_to_them_unless_the_user_said_otherwise():
    limit = "from vitrail.engines.threads import limit_threads; limit_threads()"
    assert threads(limit) == 1
    assert threads(limit, OMP_NUM_THREADS="3") == 3
    assert threads("import vitrail; vitrail.load('emoji/clip-nano', engine='eager')") == 1


def test_a_module_beside_another_engine_computes_on_one_thread():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        head = nn.Linear(2, 2)
        plain = head(torch.ones(1, 2))
        head.forward = OnOneThread(head.forward)
        head.register_forward_pre_hook(lambda module, args: seen.append(torch.get_num_threads()))
        inner = OnOneThread(lambda values: seen.append(torch.get_num_threads()) or values)
        assert inner(3) == 3
        assert torch.equal(head(torch.ones(1, 2)), plain)
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            OnOneThread(lambda: 1 / 0)()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_copied_module_computes_with_its_own_weights():
    head = nn.Linear(2, 2)
    head.forward = OnOneThread(head.forward)
    copied = copy.deepcopy(head)
    with torch.no_grad():
        copied.weight.zero_()
        copied.bias.fill_(5)
    assert copied(torch.ones(1, 2)).tolist() == [[5, 5]]
