"""A rank that dies, and folders that cannot be written: the job ends within seconds and leaves no process."""
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from deepflow_jobs import EndToEnd, Job, processes_of

LONG_RUN = ["train.steps=100000", "data.heldout=", "log.every=1"]


class DyingRank(EndToEnd):
    def start_long_run(self, ranks, *layout):
        """A job that has finished a few steps."""
        job = Job(self.folder, ["train", "recipe.yaml", *LONG_RUN, *layout], ranks)
        self.addCleanup(lambda: job.process.poll() is None and os.killpg(job.process.pid, signal.SIGKILL))
        metrics = self.folder / "run/metrics.jsonl"
        end = time.monotonic() + 60
        while time.monotonic() < end and len(processes_of(self.folder)) < ranks:
            time.sleep(0.05)
        while time.monotonic() < end and not (metrics.exists() and '"step":3,' in metrics.read_text()):
            time.sleep(0.05)
        self.assertIsNone(job.process.poll())
        self.assertEqual(len(processes_of(self.folder)), ranks)
        return job

    def setUp(self):
        (self.folder / "run/metrics.jsonl").unlink(missing_ok=True)

    def kill_one(self, which, ranks, *layout):
        with self.subTest(rank=which, layout=layout):
            self.setUp()
            job = self.start_long_run(ranks, *layout)
            by_rank = {rank_of(process): process for process in processes_of(self.folder)}
            os.kill(by_rank[which], signal.SIGKILL)
            job.wait(limit=20)
            self.assertNotEqual(job.code, 0)
            self.assertRegex(job.err, rf"(?i)rank {which} .*\n?.*signal 9 \(Killed\)")
            self.assert_nothing_runs()

    def test_killed_in_the_middle_ends_the_job(self):
        for which in (0, 1):
            self.kill_one(which, 2)

    def test_killed_in_the_middle_of_a_pipeline_ends_the_job(self):
        for which in (0, 3):
            self.kill_one(which, 4, "parallel.pp=2", "parallel.tp=2", "train.micro_batch=1")
        self.kill_one(1, 2, "parallel.zero=3", "train.micro_batch=1")

    def test_interrupted_job_ends(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                self.setUp()
                job = self.start_long_run(ranks)
                job.process.send_signal(signal.SIGINT)
                job.wait(limit=20)
                self.assertNotEqual(job.code, 0)
                self.assert_nothing_runs()


def rank_of(process):
    environment = pathlib.Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    return int(re.search(r"OMPI_COMM_WORLD_RANK=(\d+)", environment)[1])


class UnwritableFolder(EndToEnd):
    def test_run_folder_that_cannot_be_made(self):
        (self.folder / "a_file").write_text("")
        self.assert_refused("run.dir: a_file/run cannot be created", overrides=["run.dir=a_file/run"])
        self.assert_refused("run.dir: /proc/run cannot be created", overrides=["run.dir=/proc/run"])

    def test_run_folder_that_is_a_file(self):
        (self.folder / "a_file").write_text("")
        self.assert_refused("a_file", overrides=["run.dir=a_file"])

    def test_metrics_on_a_full_disk(self):
        (self.folder / "full").mkdir(exist_ok=True)
        link = self.folder / "full/metrics.jsonl"
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/full")
        self.assert_refused("full/metrics.jsonl", "No space left on device", overrides=["run.dir=full"])

    def test_standard_output_on_a_full_disk(self):
        for ranks in (1, 2):
            job = self.deepflow("train", "recipe.yaml", ranks=ranks, prefix=["sh", "-c", '"$@" >/dev/full', "sh"])
            self.assert_one_line(job, "standard output cannot be written")


class FullDisk(EndToEnd):
    """A file system of a few pages for run.dir: every file of a run meets its end once."""

    def train_on_disk_of(self, kilobytes, ranks):
        (self.folder / "small").mkdir(exist_ok=True)
        # In a mount namespace of its own, which the job's end takes down whatever happens.
        script = f'mount -t tmpfs -o size={kilobytes}k tmpfs small && exec "$@"'
        return self.deepflow("train", "recipe.yaml", "run.dir=small/run", ranks=ranks,
                             wrapper=["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"])

    def setUp(self):
        (self.folder / "small").mkdir(exist_ok=True)
        probe = subprocess.run(["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "small"],
                               cwd=self.folder, capture_output=True, text=True)
        if probe.returncode != 0:
            self.skipTest("cannot mount a small tmpfs: " + probe.stderr.strip())

    def test_every_file_of_a_run_says_where_space_is_missing(self):
        met = set()
        for kilobytes in (4, 8, 12, 16, 20, 28, 40, 100):
            with self.subTest(kilobytes=kilobytes):
                job = self.train_on_disk_of(kilobytes, 1)
                self.assert_one_line(job, "small/run")
                self.assertRegex(job.err.lower(), "no space left on device")
                met.add(re.search(r"small/run/([\w./]*?)(?:\.\d+.*)?[:, ]", job.err)[1])
        print("files met:", sorted(met))
        self.assertIn("model/model.safetensors", met)
        self.assertGreaterEqual(len(met), 3)

    def test_two_ranks_end(self):
        self.assert_one_line(self.train_on_disk_of(16, 2), "rank 0", "small/run")


if __name__ == "__main__":
    unittest.main(verbosity=2)
