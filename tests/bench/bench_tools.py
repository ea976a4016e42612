"""What the benchmark scripts share: arguments, the corpus, alternating runs, tables, the JSON line."""
import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys

CORPUS = "/usr/share/dictd/gcide.dict.dz"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
TUNED_MALLOC = ("glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1000000000000:"
                "glibc.malloc.hugetlb=1")


def arguments(*extra):
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, help="build folder with the benchmark programs")
    for name, options in extra:
        parser.add_argument(name, **options)
    return parser.parse_args()


def corpus_bytes(count=None, skip=0):
    with gzip.open(CORPUS) as f:
        f.seek(skip)
        return f.read(count) if count else f.read()


def run(command, env=None, check=True, **options):
    result = subprocess.run([str(c) for c in command], env={**os.environ, **AS_ROOT, **(env or {})}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with code {result.returncode}:\n"
                 f"{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result


def mpirun(ranks, command):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "--mca", "pml", "ob1",
            "--mca", "btl", "vader,self", "-n", ranks, *command]


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def median(values):
    return statistics.median(values)


def print_table(header, rows):
    texts = [[str(c) for c in header]] + [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    for row in texts:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip())


def finish(figures):
    print(json.dumps(figures))
