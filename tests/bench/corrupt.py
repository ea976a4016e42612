#!/usr/bin/env python3
# bench: single-bit flips and cut files of checkpoints: detected by verification, or without effect on any loaded value
import sys

import bench_tools as tools


def main():
    args = tools.arguments(("--flips", dict(type=int, default=10000)),
                           ("--truncations", dict(type=int, default=1000)), ("--seed", dict(type=int, default=1)))
    done = tools.run([f"{args.build}/bench_corrupt", "--flips", args.flips, "--truncations", args.truncations, "--seed",
                      args.seed], check=False)
    sys.stderr.write(done.stderr)
    print(done.stdout, end="")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
