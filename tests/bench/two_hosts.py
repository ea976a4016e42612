"""Two hosts of one core each on this machine: network namespaces joined at a given rate, and mpirun over both.

Everything lives in network, mount and process namespaces of the caller's own (`enter`), which end with it.
"""
import os
import pathlib
import subprocess
import sys

INSIDE = "DEEPFLOW_TWO_HOSTS"
NETWORK = "10.99.0"
BURST = "256kb"  # of the shaper: some segments of 64 KiB, 0.2 ms at 10 Gbit/s
QUEUE = "8mb"    # of a switch: nothing is lost at any rate
NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
              "--mount-proc"]


def missing():
    """Why there can be no two hosts here, as a line; None when there can."""
    if os.geteuid() != 0:
        return "two hosts need root, for network namespaces"
    try:
        probe = subprocess.run([*NAMESPACES, "sh", "-c", "ip link add v1 type veth peer name v2 && "
                                "tc qdisc replace dev v1 root tbf rate 1gbit burst 64kb latency 5ms"],
                               capture_output=True, text=True)
    except FileNotFoundError as e:
        return f"two hosts need util-linux: {e}"
    return None if probe.returncode == 0 else f"no network namespaces here: {probe.stderr.strip().splitlines()[-1]}"


def is_inside():
    return bool(os.environ.get(INSIDE))


def enter():
    """Runs this script again inside namespaces of its own, and ends with it. Returns at once when already there."""
    if is_inside():
        return
    os.environ[INSIDE] = "1"
    sys.exit(subprocess.run([*NAMESPACES, sys.executable, *sys.argv]).returncode)


def _shell(command):
    subprocess.run(command, shell=True, check=True)


class TwoHosts:
    def __init__(self, folder):
        self.agent = pathlib.Path(folder) / "agent.sh"
        cores = sorted(os.sched_getaffinity(0))
        self.agent.write_text(
            "#!/bin/sh\n"  # $1: the address, then a command
            "n=${1##*.}; shift\n"
            f"[ $n = 1 ] && cpu={cores[0]} || cpu={cores[1 % len(cores)]}\n"
            "exec ip netns exec h$n unshare -u sh -c \"hostname h$n; exec taskset -c $cpu $*\"\n")
        self.agent.chmod(0o755)
        _shell("mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up")
        _shell(f"ip link add br0 type bridge && ip addr add {NETWORK}.254/24 dev br0 && ip link set br0 up")
        for i in (1, 2):
            _shell(f"ip netns add h{i} && ip link add v{i} type veth peer name eth0 netns h{i} && "
                   f"ip link set v{i} master br0 up && ip -n h{i} link set lo up && "
                   f"ip -n h{i} addr add {NETWORK}.{i}/24 dev eth0 && ip -n h{i} link set eth0 up")

    def set_rate(self, gbit):
        for i in (1, 2):
            _shell(f"tc -n h{i} qdisc replace dev eth0 root tbf rate {gbit}gbit burst {BURST} limit {QUEUE}")

    def mpirun(self, command, ranks=2):
        """Even ranks are on the first host, odd ones on the second."""
        slots = ranks // 2
        return ["mpirun", "--host", f"{NETWORK}.1:{slots},{NETWORK}.2:{slots}", "-np", ranks, "--map-by", "node", "--bind-to", "none",
                "--mca", "plm_rsh_agent", self.agent, "--mca", "plm_rsh_no_tree_spawn", 1,
                "--mca", "oob_tcp_if_include", f"{NETWORK}.0/24", "--mca", "btl", "tcp,vader,self",
                "--mca", "btl_tcp_if_include", f"{NETWORK}.0/24", "--mca", "pml", "ob1",
                "--mca", "mpi_yield_when_idle", 1, *command]
