#!/usr/bin/env python3
# bench: runs killed at random moments, many inside a save: each goes on from the newest checkpoint to the same bits
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import bench_tools as tools

RANKS = 2
STEPS, EVERY = 40, 2
RECIPE = f"""\
model: {{family: llama, layers: 4, width: 192, heads: 4, kv_heads: 2, tie_embeddings: true}}
data: {{train: text.h5, tokenizer: byte, sequence: 64}}
train: {{steps: {STEPS}, global_batch: 8, precision: bf16, threads: 1}}
optim: {{lr: 1e-3}}
checkpoint: {{every: {EVERY}}}
run: {{dir: run}}
"""
WHO = ["all", "all", "rank 0", "rank 1", "mpirun"]
MOST_KILLS_OF_A_RUN = 4
TIME_LIMIT = 120


def processes_of(folder, program):
    """Ids of the processes with this working folder that run `program`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(folder) \
                    and os.path.basename(os.readlink(entry / "exe")) == program:
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def rank_of(process):
    try:
        found = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{process}/environ").read_bytes())
        return int(found[1]) if found else None
    except OSError:
        return None


class Run:
    """One training run in a folder of its own, started as often as it takes."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.checkpoints = folder / "run/checkpoints"

    def start(self):
        command = [str(c) for c in tools.mpirun(RANKS, [self.program, "train", "recipe.yaml"])]
        self.begin = time.monotonic()
        self.job = subprocess.Popen(command, cwd=self.folder, env={**os.environ, **tools.AS_ROOT}, text=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    start_new_session=True)

    def finish(self):
        """Exit code and output; nothing of the job runs any more."""
        try:
            out, _ = self.job.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(self.job.pid, signal.SIGKILL)
            out = self.job.communicate()[0] + f"\nno end after {TIME_LIMIT} s"
        end = time.monotonic() + 10
        while self.ranks() and time.monotonic() < end:
            time.sleep(0.01)
        for process in self.ranks():
            os.kill(process, signal.SIGKILL)
        return self.job.returncode, out

    def ranks(self):
        return processes_of(self.folder, os.path.basename(self.program))

    def kill(self, who):
        processes = self.ranks()
        if who != "all":
            processes = [self.job.pid] if who == "mpirun" else [p for p in processes if rank_of(p) == int(who[-1])]
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def names(self):
        return os.listdir(self.checkpoints) if self.checkpoints.exists() else []

    def is_saving(self):
        return any(name.endswith(".writing") and name.startswith("step-") for name in self.names())

    def committed(self):
        """The newest step that counts, or -1."""
        return max((int(name[5:]) for name in self.names()
                    if re.fullmatch(r"step-\d+", name) and (self.checkpoints / name / "commit").exists()), default=-1)

    def outcome(self):
        """Parameters as they were exported, and the digests of all blocks of the last checkpoint."""
        folder = self.checkpoints / f"step-{STEPS:08d}"
        manifest = json.loads((folder / "manifest.json").read_text())
        digests = [digests_of(folder / f"index-{i:05d}") for i in range(len(manifest["files"]))]
        tensors = {t["name"]: [digests[s["file"]][s["first"]:s["first"] + s["blocks"]] for s in t["slices"]]
                   for t in manifest["tensors"]}
        return (self.folder / "run/model/model.safetensors").read_bytes(), tensors


def digests_of(index):
    """Of the values of each block, in the order of the file's records (docs/formats/blockstore.md)."""
    content = index.read_bytes()
    sources, records = struct.unpack_from("<QQ", content, 16)
    first = len(content) - 48 * records
    assert first >= 32 + 8 * sources
    return [content[first + 48 * i + 8:first + 48 * i + 24] for i in range(records)]


def wait_for_moment(run, seconds, rng):
    """Anywhere in the run, or a little behind the beginning of a save."""
    at = run.begin + rng.uniform(0, seconds)
    inside = rng.random() < 0.7
    while run.job.poll() is None and time.monotonic() < at:
        time.sleep(0.001)
    if inside:
        while run.job.poll() is None and not run.is_saving():
            pass
        time.sleep(rng.choice([0, rng.uniform(0, 0.01), rng.uniform(0, 0.06)]))


def resumed_step(out):
    """Where a run said that it begins; None where it did not get so far."""
    found = re.search(r"resume +(?:step (\d+) from|none found)", out)
    return None if found is None else int(found[1] or -1)


class Trials:
    def __init__(self, program, folder, seed):
        self.program, self.folder, self.rng = os.path.abspath(program), folder, random.Random(seed)
        self.figures = {"times": 0, "lost": 0, "different": 0, "inside_saves": 0, "runs": 0}

    def fresh_run(self):
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        return Run(self.program, self.folder)

    def uninterrupted(self):
        run = self.fresh_run()
        run.start()
        code, out = run.finish()
        if code != 0:
            sys.exit(f"the run without kills ends with code {code}:\n{out[-3000:]}")
        self.seconds, self.expected = time.monotonic() - run.begin, run.outcome()

    def check_start(self, run, committed, code, out, killed):
        """Whether a start found the newest checkpoint that counted, and ended well unless it was killed."""
        step = resumed_step(out)
        lost = step is not None and step < committed
        if lost or (not killed and (code != 0 or step is None)):
            self.figures["lost"] += 1
            print(f"LOST: step {committed} was committed; code {code}\n{out[-3000:]}", flush=True)
            return False
        return True

    def one_run(self, times):
        run, kills, good = self.fresh_run(), 0, True
        most = min(times, self.rng.randint(1, MOST_KILLS_OF_A_RUN))
        while good:
            committed = run.committed()
            run.start()
            if kills < most:
                wait_for_moment(run, self.seconds, self.rng)
            killed = kills < most and run.job.poll() is None
            if killed:
                saving = run.is_saving()
                run.kill(self.rng.choice(WHO))
            code, out = run.finish()
            killed = killed and code != 0
            if killed:
                kills += 1
                self.figures["inside_saves"] += saving
            good = self.check_start(run, committed, code, out, killed)
            if not killed:
                break
        if good and run.outcome() != self.expected:
            self.figures["different"] += 1
            print("DIFFERENT parameters or state at the end", flush=True)
        self.figures["times"] += kills
        self.figures["runs"] += 1


def main():
    args = tools.arguments(("--times", dict(type=int, default=50)), ("--seed", dict(type=int, default=1)))
    with tempfile.TemporaryDirectory(prefix="deepflow-kill-") as folder:
        folder = pathlib.Path(folder).resolve()
        rng = random.Random(1)
        (folder / "text.txt").write_text("\n\n".join("".join(chr(rng.randint(97, 122)) for _ in range(200))
                                                     for _ in range(400)))
        (folder / "recipe.yaml").write_text(RECIPE)
        program = os.path.abspath(f"{args.build}/deepflow")
        tools.run([program, "data", "tokenize", "--tokenizer", "byte", "--separator", "\n\n", "--out", "text.h5",
                   "text.txt"], cwd=folder)
        trials = Trials(program, folder, args.seed)
        trials.uninterrupted()
        print(f"{STEPS} steps with a checkpoint every {EVERY} take {trials.seconds:.1f} s without kills", flush=True)
        while trials.figures["times"] < args.times:
            trials.one_run(args.times - trials.figures["times"])
    figures = trials.figures
    tools.print_table(["runs", "kills", "of them inside a save", "lost", "different"],
                      [[figures["runs"], figures["times"], figures["inside_saves"], figures["lost"],
                        figures["different"]]])
    tools.finish(figures)
    sys.exit(1 if figures["lost"] or figures["different"] else 0)


if __name__ == "__main__":
    main()
