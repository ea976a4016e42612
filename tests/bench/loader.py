#!/usr/bin/env python3
# bench: tokens a second that the loader delivers, over the trainer's consumption
import bench_tools as tools


def main():
    args = tools.arguments(("--consumption", dict(type=float, default=20000)))
    print(tools.run([f"{args.build}/bench_loader", "--consumption", args.consumption]).stdout, end="")


if __name__ == "__main__":
    main()
