"""A run over pipeline stages, and its schedule as it ran: deepflow train with a trace, deepflow schedule show."""
import re
import unittest
import xml.etree.ElementTree

from deepflow_jobs import EndToEnd

SVG = "{http://www.w3.org/2000/svg}"
ONE_CHUNK = ("gpipe", "1f1b", "zb_h1")
TWO_CHUNKS = ("interleaved_1f1b", "zb_v", "dualpipev")
MICRO_BATCHES = 8


def boxes(picture):
    """Titles of the boxes of each panel; a panel begins with its line of text."""
    panels = []
    for element in xml.etree.ElementTree.parse(picture).getroot():
        if element.tag == SVG + "text" and re.match(r"(planned|measured): ", element.text or ""):
            panels.append((element.text, []))
        elif element.tag == SVG + "g":
            panels[-1][1].append(element)
    return panels


def place(box):
    """Rank, action, begin and end of a box in its panel's time; left and right edge in the picture."""
    rank, action, begin, end = re.fullmatch(r"rank (\d+): (.*), (\S+) to (\S+)", box.find(SVG + "title").text).groups()
    rectangle = box.find(SVG + "rect")
    left = float(rectangle.get("x"))
    return int(rank), action, float(begin), float(end), left, left + float(rectangle.get("width"))


class Pipeline(EndToEnd):
    def train_pipeline(self, schedule, chunks):
        return self.train("model.layers=4", "parallel.pp=2", f"parallel.vp={chunks}", f"parallel.schedule={schedule}",
                          f"train.global_batch={MICRO_BATCHES}", "train.micro_batch=1", "log.trace_from=3",
                          f"run.dir={schedule}", ranks=2)

    def show(self, schedule, chunks, micro_batches=MICRO_BATCHES):
        return self.deepflow("schedule", "show", "--name", schedule, "--pp", 2, "--vp", chunks, "--micro-batches",
                             micro_batches, "--trace", f"{schedule}/trace.json", "--out", f"{schedule}.svg")

    def test_shows_a_step_of_a_run_below_its_plan(self):
        for chunks, schedules in enumerate((ONE_CHUNK, TWO_CHUNKS), start=1):
            for schedule in schedules:
                with self.subTest(schedule=schedule):
                    job = self.train_pipeline(schedule, chunks)
                    self.assertRegex(job.out, rf"(?m)^pipeline {schedule}, 2 stages x {chunks} chunks?, "
                                              r"layers \d( \d)+, planned bubble \d+ %$")
                    job = self.show(schedule, chunks)
                    self.assertEqual(job.code, 0, job.err)
                    self.assertRegex(job.out, r"(?m)^measured: step \S+ ms, bubble \d+\.\d\d %")
                    self.check_picture(self.folder / f"{schedule}.svg", chunks)

    def check_picture(self, picture, chunks):
        (_, planned), (measured_title, measured) = boxes(picture)
        self.assertIn(" ms a step, bubble ", measured_title)
        actions = [[place(box)[:2] for box in panel] for panel in (planned, measured)]
        self.assertEqual(actions[0], actions[1])
        passes = [part for _, action in actions[1] for part in action.split(" + ")]
        self.assertEqual(sum(part.startswith("F ") for part in passes), 2 * chunks * MICRO_BATCHES)
        self.check_order([place(box) for box in measured])

    def check_order(self, places):
        begin, width = {}, max(p[5] for p in places) - min(p[4] for p in places)
        last_end = {0: 0.0, 1: 0.0}
        for rank, action, first, last, left, right in places:
            self.assertGreaterEqual(first, last_end[rank] - 1e-3, action)  # a rank does one thing at a time
            self.assertLessEqual(left, right)
            last_end[rank] = last
            for part in action.split(" + "):
                if part.startswith("F "):
                    begin[part] = first
        duration = max(last_end.values())
        for _, action, first, last, left, right in places:
            self.assertAlmostEqual((right - left) / width, (last - first) / duration, delta=2e-3, msg=action)
        for part, when in begin.items():  # a chunk begins behind the one before it
            chunk, micro_batch = re.fullmatch(r"F c(\d+) m(\d+)", part).groups()
            before = f"F c{int(chunk) - 1} m{micro_batch}"
            if before in begin:
                self.assertGreater(when, begin[before], part)

    def test_a_trace_of_another_schedule_is_refused(self):
        self.train_pipeline("1f1b", 1)
        self.assert_one_line(self.show("1f1b", 1, micro_batches=9), "trace.json", "is it the trace of another schedule?")


if __name__ == "__main__":
    unittest.main()
