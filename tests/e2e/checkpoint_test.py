"""Runs that are killed and go on on another layout, and checkpoints that cannot be read or written."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from deepflow_jobs import RECIPE, EndToEnd, Job, processes_of

STEPS, EVERY = 60, 5
SAVING = [f"checkpoint.every={EVERY}"]


class Checkpoints(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.folder / "recipe.yaml").write_text(RECIPE.replace("lr: 1e-2", "lr: 2e-3"))

    def setUp(self):
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def losses(self, folder="run"):
        """Pairs of step and loss, as they stand in the file."""
        lines = [json.loads(line) for line in (self.folder / folder / "metrics.jsonl").read_text().splitlines()]
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    def committed(self):
        steps = (p.parent.name.removeprefix("step-") for p in (self.folder / "run/checkpoints").glob("step-*/commit"))
        return sorted(int(step) for step in steps if step.isdigit())  # no "00000010.writing"


class KilledRun(Checkpoints):
    LONG = [f"train.steps={STEPS}", "train.global_batch=64", "train.micro_batch=8", "log.every=1", "data.heldout="]

    def train_until_killed(self, step, ranks, *layout):
        """Kills every process behind the checkpoint of that step; returns what the job had said."""
        job = Job(self.folder, ["train", "recipe.yaml", *self.LONG, *SAVING, *layout], ranks)
        end = time.monotonic() + 100
        while time.monotonic() < end and job.process.poll() is None and max(self.committed(), default=0) < step:
            time.sleep(0.005)
        for process in [job.process.pid, *processes_of(self.folder)]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        job.wait(limit=20)
        self.assert_nothing_runs()
        self.assertNotEqual(job.code, 0, job.out)
        self.assertIn(self.committed()[-1], range(step, STEPS))
        return job

    def test_goes_on_on_other_layouts_along_the_same_curve(self):
        self.train(*self.LONG, "run.dir=alone")
        self.train_until_killed(10, 2)
        second = self.train_until_killed(30, 4, "parallel.tp=2", "parallel.zero=3")
        self.assertRegex(second.out, r"resume   step \d+ from run/checkpoints/step-\d+: .* verified")
        third = self.train(*self.LONG, *SAVING)
        self.assertRegex(third.out, r"resume   step \d+ from run/checkpoints/step-\d+: .* verified")
        got, expected = self.losses(), self.losses("alone")
        self.assertEqual([step for step, _ in got], list(range(1, STEPS + 1)))
        for (step, ours), (_, theirs) in zip(got, expected, strict=True):
            self.assertLessEqual(abs(ours - theirs), 2e-4 * theirs, step)
        self.assertEqual(self.committed(), [STEPS - EVERY, STEPS])

    def test_a_run_that_is_done_says_so_and_keeps_its_curve(self):
        self.train(*SAVING, "train.steps=10")
        before = self.losses()
        for ranks in (1, 2):
            job = self.train(*SAVING, "train.steps=10", ranks=ranks)
            self.assertIn("all 10 steps are done: raise train.steps", job.out)
            self.assertEqual(self.losses(), before)


class RefusedCheckpoints(Checkpoints):
    def setUp(self):
        super().setUp()
        self.train(*SAVING, "train.steps=5")

    def test_of_another_model_or_optimizer(self):
        for override, name in (("model.width=64", "head.weight (f32 [257, 32], expected f32 [257, 64])"), ("model.layers=3", "layers.2"),
                               ("optim.name=lion", "adamw.m/")):
            self.assert_refused("step-00000005 is of another model or optimizer", name, overrides=[*SAVING, override])

    def test_newer_than_the_run_begins(self):
        self.assert_refused("run/checkpoints has a checkpoint of step 5, and this run begins at step 0",
                            overrides=[*SAVING, "checkpoint.resume=never"])
        self.assertEqual(self.committed(), [5])

    def test_that_are_not_there(self):
        self.assert_refused("checkpoint.resume: nowhere is no checkpoint", overrides=["checkpoint.resume=nowhere"])
        self.assert_refused("checkpoint.resume: recipe.yaml is no checkpoint",
                            overrides=[*SAVING, "checkpoint.resume=recipe.yaml"])

    def test_of_another_tokenizer(self):
        for name, text in (("first", "one two three four five "), ("second", "six seven eight nine ten ")):
            (self.folder / f"{name}.txt").write_text(text * 200)
            job = self.deepflow("data", "train-tokenizer", "--vocabulary", 260, "--out", f"{name}.json", f"{name}.txt")
            self.assertEqual(job.code, 0, job.err)
            self.tokenize(f"{name}.json", f"{name}.h5")

        def with_tokenizer(name):
            return [*SAVING, "train.steps=5", f"data.tokenizer={name}.json", f"data.train={name}.h5",
                    f"data.heldout={name}.h5", "checkpoint.dir=told"]

        self.train(*with_tokenizer("first"))
        self.assert_refused("told/step-00000005 was trained with tokenizer", "data.tokenizer",
                            overrides=with_tokenizer("second"))


class DamagedCheckpoints(Checkpoints):
    def test_are_passed_by_and_said(self):
        self.train(*SAVING, "train.steps=10")
        expected = self.losses()
        data = self.folder / "run/checkpoints/step-00000010/data-00000"
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
        self.assert_refused("step-00000010", "is damaged",
                            overrides=[*SAVING, "checkpoint.resume=run/checkpoints/step-00000010"])
        job = self.train(*SAVING, "train.steps=10", ranks=2)
        self.assertRegex(job.out, r"resume   passed by: \S*run/checkpoints/step-00000010/data-00000 at byte \d+: ")
        self.assertIn("resume   step 5 from", job.out)
        for (step, ours), (_, theirs) in zip(self.losses(), expected, strict=True):
            self.assertLessEqual(abs(ours - theirs), 2e-5 * theirs, step)


@unittest.skipUnless(os.geteuid() == 0, "only root can mount what is full or read-only")
class DisksThatRefuse(Checkpoints):
    def mount(self, *options):
        where = self.folder / "disk"
        where.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(where)], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            self.skipTest(f"nothing can be mounted here: {done.stderr}")
        self.addCleanup(subprocess.run, ["umount", str(where)], check=True)
        return where

    def failures(self, job):
        """Of saves; each is a line."""
        return [line for line in job.out.splitlines() if "failed, training goes on" in line]

    def train_there(self, steps, ranks):
        return self.train("checkpoint.every=5", "checkpoint.dir=disk/c", f"train.steps={steps}", "log.every=1",
                          "checkpoint.differences=false", ranks=ranks)

    def check_failures(self, job, steps, why):
        lines = self.failures(job)
        self.assertEqual(len(lines), len(steps), job.out)
        for line, step in zip(lines, steps):
            self.assertIn(f"checkpoint of step {step} failed, training goes on: ", line)
            self.assertIn(why, line)
        self.assertEqual(job.err, "")

    def checkpoint_bytes(self, folder):
        return sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*") if p.is_file())

    def test_a_full_disk_costs_the_checkpoint_and_not_the_run(self):
        self.train(*SAVING, "train.steps=5")
        room = self.checkpoint_bytes(self.folder / "run/checkpoints/step-00000005") * 3 // 2
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                where = self.mount("-o", f"size={room}")
                job = self.train_there(15, ranks)
                self.check_failures(job, [10, 15], "no space left on device")
                self.assertEqual([step for step, _ in self.losses()], list(range(1, 16)))
                self.assertEqual([p.name for p in where.glob("c/step-*")], ["step-00000005"])
                self.assertIn("resume   step 5 from disk/c/step-00000005", self.train_there(8, ranks).out)
                self.doCleanups()

    def test_a_disk_that_became_read_only_costs_the_checkpoint_and_not_the_run(self):
        where = self.mount()
        self.train_there(5, 1)
        subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True)
        for ranks in (1, 2):
            job = self.train_there(15, ranks)
            self.assertIn("resume   step 5 from disk/c/step-00000005", job.out)
            self.check_failures(job, [10, 15], "Read-only file system")
            self.assertEqual([step for step, _ in self.losses()], list(range(1, 16)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
