"""What the end-to-end tests share: a folder with data and recipes, and jobs with a time limit that must leave no process.

Each test file is a unittest program; ctest calls it with the environment below (tests/e2e/CMakeLists.txt).
"""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

DEEPFLOW = os.environ["DEEPFLOW_BINARY"]
MPIRUN = pathlib.Path(__file__).resolve().parent.parent / "mpirun"
TIME_LIMIT = 120  # seconds; a job that takes longer hangs

RECIPE = """\
model: {family: llama, layers: 2, width: 32, heads: 4, kv_heads: 2}
data:
  train: text.h5
  heldout: text.h5
  tokenizer: byte
  sequence: 64
train: {steps: 4, global_batch: 8, precision: f32, threads: 1, eval_windows: 4}
optim: {lr: 1e-2}
run: {dir: run}
"""


def some_text(documents=150, seed=1):
    words = "ocean wind a carries the salt ship slowly over under".split()
    rng = random.Random(seed)
    return "\n\n".join(" ".join(rng.choice(words) for _ in range(rng.randint(5, 60))) + "." for _ in range(documents))


def processes_of(folder):
    """Ids of the running deepflow processes whose working folder is `folder`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and pathlib.Path(os.readlink(entry / "cwd")) == folder \
                    and os.path.basename(os.readlink(entry / "exe")) == os.path.basename(DEEPFLOW):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Job:
    """deepflow with these arguments, on one rank without mpirun or on several with it, in `folder`.

    prefix: a command that runs each rank; wrapper: one that runs the whole job.
    """

    def __init__(self, folder, arguments, ranks=1, prefix=(), wrapper=()):
        command = [*prefix, DEEPFLOW, *map(str, arguments)]
        if ranks > 1:
            command = [str(MPIRUN), str(ranks), *command]
        command = [*wrapper, *command]
        self.folder = folder
        self.begin = time.monotonic()
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)

    def wait(self, limit=TIME_LIMIT):
        try:
            self.out, self.err = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.out, self.err = self.process.communicate()
            raise AssertionError(f"no end after {limit} s: {self.process.args}\n{self.out[-2000:]}{self.err[-2000:]}")
        self.seconds = time.monotonic() - self.begin
        self.code = self.process.returncode
        return self


class EndToEnd(unittest.TestCase):
    """A folder with text.h5 (byte tokens) and recipe.yaml, made once for all tests of a class."""
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="deepflow-e2e-")).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        (cls.folder / "text.txt").write_text(some_text())
        (cls.folder / "recipe.yaml").write_text(RECIPE)
        cls.tokenize("byte", "text.h5")

    @classmethod
    def tokenize(cls, tokenizer, store):
        job = Job(cls.folder, ["data", "tokenize", "--tokenizer", tokenizer, "--separator", "\n\n", "--out", store,
                               "text.txt"]).wait()
        assert job.code == 0, job.err

    def deepflow(self, *arguments, ranks=1, **how):
        job = Job(self.folder, arguments, ranks, **how).wait()
        self.assert_nothing_runs()
        return job

    def train(self, *overrides, ranks=1):
        """A training run that must succeed."""
        job = self.deepflow("train", "recipe.yaml", *overrides, ranks=ranks)
        self.assertEqual(job.code, 0, job.out + job.err)
        return job

    def assert_nothing_runs(self, seconds=5):
        end = time.monotonic() + seconds
        while time.monotonic() < end and processes_of(self.folder):
            time.sleep(0.05)
        self.assertEqual(processes_of(self.folder), [])

    def assert_one_line(self, job, *texts):
        """Exit code 2 and exactly one line on stderr, deepflow's, which contains all texts."""
        self.assertEqual(job.code, 2, job.out + job.err)
        lines = job.err.splitlines()
        self.assertEqual(len(lines), 1, job.err)
        self.assertTrue(lines[0].startswith("deepflow: "), lines[0])
        for text in texts:
            self.assertIn(text, lines[0])

    def assert_refused(self, *texts, overrides=(), recipe="recipe.yaml", ranks=(1, 2)):
        """`deepflow train` says why it does not run, on any number of ranks."""
        for n in ranks:
            with self.subTest(ranks=n):
                self.assert_one_line(self.deepflow("train", recipe, *overrides, ranks=n), *texts)
