#!/usr/bin/env python3
# bench: checkpoint codecs on Gaussian and trained values: ratios, GB/s beside ZipNN and zstd on one core, cost of digests
"""Trains the quickstart's model for --steps, or takes such a --run: its model and the newest checkpoint, whose state of AdamW
is counted as it lies there. The last line is one JSON object; compress_over_zipnn and decompress_over_zipnn are the least of
the Gaussian bf16 and f32."""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import pathlib
import struct
import tempfile
import time

import numpy
import zipnn

import bench_tools as tools

ROOT = pathlib.Path(__file__).resolve().parents[2]
GAUSSIAN_VALUES = {"bf16": 24 << 20, "f32": 16 << 20}
ZIPNN_DTYPE = {"bf16": "bfloat16", "f32": "float32"}
RECORD = 48 / (256 << 10)  # of a block, which ratios count and ZipNN has none of
PEERS = ("zstd -1", "zstd -3")


def rounded(values):
    """f32 to bf16, to nearest even."""
    bits = values.view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def gaussian(folder):
    random = numpy.random.default_rng(1)
    for dtype, count in GAUSSIAN_VALUES.items():
        values = random.standard_normal(count, dtype="<f4") * numpy.float32(0.02)
        (folder / f"gaussian.{dtype}").write_bytes((values if dtype == "f32" else rounded(values)).tobytes())


def train(build, data, out, steps):
    keys = [f"train.steps={steps}", f"optim.warmup={max(1, steps // 12)}", f"data.train={data}/train.h5",
            f"data.heldout={data}/heldout.h5", f"data.tokenizer={data}/tokenizer.json", f"run.dir={out}",
            "train.eval_windows=8", "log.tensorboard=false", f"checkpoint.every={steps}"]
    tools.run([f"{build}/deepflow", "train", ROOT / "examples/quickstart.yaml", *keys])
    return out


def tensors_of(path):
    """Name and values of every tensor of a safetensors file of f32."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    for name, about in json.loads(content[8:8 + length]).items():
        if name == "__metadata__":
            continue
        if about["dtype"] != "F32":
            raise SystemExit(f"{path}: {name} is {about['dtype']}, expected F32")
        begin, end = about["data_offsets"]
        yield name, numpy.frombuffer(content, "<f4", (end - begin) // 4, 8 + length + begin)


class Set:
    """Files of one dtype, a tensor each."""

    def __init__(self, name, dtype, files):
        self.name, self.dtype, self.files = name, dtype, sorted(map(str, files))
        self.bytes = sum(os.path.getsize(f) for f in self.files)

    def ours(self, build, passes, *flags):
        command = [f"{build}/bench_codec", "--dtype", self.dtype, "--passes", passes, *flags, *self.files]
        return tools.last_json(tools.run(command).stdout)

    def zipnn(self, passes):
        """The best of some passes over the whole content, one thread."""
        content = b"".join(pathlib.Path(f).read_bytes() for f in self.files)
        peer = zipnn.ZipNN(bytearray_dtype=ZIPNN_DTYPE[self.dtype], threads=1)
        to, back = [], []
        for _ in range(passes + 1):
            copy = bytearray(content)  # it rotates its input in place
            start = time.perf_counter()
            stored = peer.compress(copy)
            to.append(time.perf_counter() - start)
            start = time.perf_counter()
            raw = peer.decompress(stored)
            back.append(time.perf_counter() - start)
        if bytes(raw) != content:
            raise SystemExit("zipnn gave other bytes back")
        return {"ratio": len(stored) / self.bytes, "compress": self.bytes / min(to[1:]) / 1e9,
                "decompress": self.bytes / min(back[1:]) / 1e9}


def trained_sets(folder, model):
    for part in ("f32", "bf16"):
        (folder / part).mkdir()
    for i, (name, values) in enumerate(tensors_of(model)):
        (folder / "f32" / f"{i}").write_bytes(values.tobytes())
        (folder / "bf16" / f"{i}").write_bytes(rounded(values).tobytes())
    return [Set(f"trained {dtype}", dtype, (folder / dtype).iterdir()) for dtype in ("bf16", "f32")]


def measure(build, data, rounds, passes):
    """Medians of alternating rounds of ours and the peer; zstd and the lossy codecs in the first."""
    figures = {}
    for turn in range(rounds):
        results = data.ours(build, passes, *(["--all"] if turn == 0 else []))
        results["zipnn"] = data.zipnn(passes)
        for codec, result in results.items():
            if isinstance(result, dict):
                for key, value in result.items():
                    figures.setdefault(codec, {}).setdefault(key, []).append(value)
            else:
                figures[codec] = result
    return {codec: {k: tools.median(v) for k, v in f.items()} if isinstance(f, dict) else f for codec, f in figures.items()}


def report(name, figures):
    rows = [[codec if codec != "planes" else "planes (ours)", figures[codec]["ratio"], figures[codec]["compress"],
             figures[codec]["decompress"]] for codec in ("planes", "zipnn", *PEERS, "nf4", "int8")]
    print(f"\n{name}, {figures['bytes'] / 1e6:.0f} MB")
    tools.print_table(["codec", "ratio", "compress GB/s", "decompress GB/s"], rows)
    print(f"a tensor as one block {figures['whole_ratio']:.4f}; digests add {figures['digest']['share']:.1%}", flush=True)


def state_figures(build, run, bf16_ratio):
    """Ratios of AdamW's state in the newest checkpoint, and of all of it with a bf16 copy that is stored or derived."""
    shown = json.loads(tools.run([f"{build}/deepflow", "ckpt", "show", "--json", run / "checkpoints/latest"]).stdout)
    size = {name: shown["state"][name]["size"]["raw"] for name in ("parameters", "adamw.m", "adamw.v")}
    stored = {name: shown["state"][name]["size"]["own"] for name in size}
    copy = size["parameters"] / 2
    whole = sum(size.values()) + copy
    print()
    tools.print_table(["AdamW's state in a checkpoint", "MB", "ratio"],
                      [["bf16 copy", copy / 1e6, bf16_ratio], *([n, size[n] / 1e6, stored[n] / size[n]] for n in size)])
    return {"m_ratio": round(stored["adamw.m"] / size["adamw.m"], 4), "v_ratio": round(stored["adamw.v"] / size["adamw.v"], 4),
            "adam_ratio": round((sum(stored.values()) + copy * bf16_ratio) / whole, 4),
            "adam_derived_ratio": round(sum(stored.values()) / whole, 4)}


def main():
    args = tools.arguments(("--steps", dict(type=int, default=500)), ("--rounds", dict(type=int, default=5)),
                           ("--passes", dict(type=int, default=3)),
                           ("--run", dict(type=pathlib.Path, help="folder of a run of AdamW to take instead of training")),
                           ("--data", dict(type=pathlib.Path, default=ROOT / "data/gcide",
                                           help="what launch/quickstart.sh leaves")))
    # One core for all that is timed; training, a child of its own, has both.
    every_core = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        gaussian(folder)
        run = args.run or train(args.build, args.data, folder / "run", args.steps)
        os.sched_setaffinity(0, {min(every_core)})
        sets = [Set(f"gaussian {d}", d, [folder / f"gaussian.{d}"]) for d in GAUSSIAN_VALUES]
        sets += trained_sets(folder, run / "model/model.safetensors")
        print(f"one core; 48 bytes of record a block of 256 KiB counted; medians of {args.rounds} alternating rounds, "
              f"each the best of {args.passes} passes; peer zipnn, one thread")
        results = {}
        for data in sets:
            results[data.name] = measure(args.build, data, args.rounds, args.passes)
            report(data.name, results[data.name])
        figures = {
            "bf16_ratio": max(results[f"{kind} bf16"]["planes"]["ratio"] for kind in ("gaussian", "trained")),
            "f32_ratio": max(results[f"{kind} f32"]["planes"]["ratio"] for kind in ("gaussian", "trained"))}
        figures = {k: round(v, 4) for k, v in figures.items()}
        figures.update(state_figures(args.build, run, results["trained bf16"]["planes"]["ratio"]))
    random = [results["gaussian bf16"], results["gaussian f32"]]
    over = lambda key: round(min(f["planes"][key] / f["zipnn"][key] for f in random), 2)
    figures.update(compress_over_zipnn=over("compress"), decompress_over_zipnn=over("decompress"),
                   ratio_over_zipnn=round(max((f["planes"]["ratio"] - RECORD) / f["zipnn"]["ratio"] for f in random), 4),
                   block_cost=round(max(f["planes"]["ratio"] / f["whole_ratio"] - 1 for f in results.values()), 5),
                   digest_share=round(max(f["digest"]["share"] for f in random), 3),
                   nf4_over_bf16=round(results["trained bf16"]["nf4"]["ratio"], 4))
    tools.finish(figures)


if __name__ == "__main__":
    main()
