"""TensorBoard itself, in a virtual environment in the build folder, reads the event files of a run."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

from deepflow_jobs import EndToEnd

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
ENVIRONMENT = pathlib.Path(os.environ["DEEPFLOW_BUILD"]) / "tensorboard-venv"
READER = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print(json.dumps({tag: [[s.step, s.value] for s in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""


def tensorboard_python():
    """The interpreter of the environment, made once."""
    made, requirements = ENVIRONMENT / "requirements.txt", REQUIREMENTS.read_text()
    if not made.exists() or made.read_text() != requirements:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        command = [ENVIRONMENT / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
        if subprocess.run(command).returncode != 0:
            raise AssertionError(f"pip cannot install {requirements.split()}: is the package index reachable?")
        made.write_text(requirements)
    return ENVIRONMENT / "bin/python"


class Tensorboard(EndToEnd):
    def read_scalars(self):
        result = subprocess.run([tensorboard_python(), "-c", READER, self.folder / "run/tensorboard"],
                                capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout.splitlines()[-1])

    def metrics(self, key):
        lines = [json.loads(line) for line in (self.folder / "run/metrics.jsonl").read_text().splitlines()]
        return [[line["step"], line[key]] for line in lines if key in line]

    def check_scalars(self, *more):
        scalars = self.read_scalars()
        for tag, key in (*more, ("train/loss", "loss"), ("train/gradient_norm", "gradient_norm"), ("train/lr", "lr"),
                         ("speed/tokens_per_second", "tokens_per_second"), ("speed/mfu", "mfu"),
                         ("heldout/loss", "heldout_loss"), ("heldout/bits_per_byte", "heldout_bits_per_byte")):
            read, expected = scalars[tag], self.metrics(key)
            self.assertEqual([step for step, _ in read], [step for step, _ in expected], tag)
            for (_, a), (_, b) in zip(read, expected):
                self.assertAlmostEqual(a, b, delta=1e-6 * abs(b), msg=tag)

    def test_reads_what_a_run_wrote(self):
        self.train("train.steps=9", "train.eval_every=3")
        self.check_scalars()

    def test_reads_the_scores_of_attention(self):
        self.train("train.steps=3", "optim.qk_clip=1e-4")
        self.check_scalars(("attention/largest_score", "largest_score"), ("attention/clipped_heads", "clipped_heads"))

    def test_shows_the_last_run_in_a_folder_only(self):
        self.train("train.steps=9", "train.eval_every=3")
        self.train("train.steps=5", "train.seed=2")
        self.check_scalars()


if __name__ == "__main__":
    unittest.main(verbosity=2)
