"""Saves and loads the state of checkpoint_io.cpp with PyTorch; both ranks run this program, rank 0 prints a JSON line.

Files are on the disk when a save ends (FileSystemWriter syncs its own; torch.save's file is synced by us) and not in the
page cache when a load begins.
"""
import argparse
import json
import os
import pathlib
import shutil
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

ROWS, COLUMNS = 4096, 1024
KINDS = ["parameters", "adamw.m", "adamw.v"]


def read_state(folder, rank, size, layers):
    values = torch.from_file(f"{folder}/state-{rank}", size=layers * 3 * ROWS // size * COLUMNS).clone()
    parts = values.view(layers * 3, ROWS // size, COLUMNS)
    return {f"{KINDS[i % 3]}/layers.{i // 3}.weight": part for i, part in enumerate(parts)}


def timed(f):
    dist.barrier()
    begin = time.monotonic()
    result = f()
    dist.barrier()
    return time.monotonic() - begin, result


def forget(folder):
    dist.barrier()
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    dist.barrier()


def clean(folder):
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
    dist.barrier()


def with_dcp(state, folder):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def sharded(make):
        return {name: DTensor.from_local(make(part), mesh, [Shard(0)]) for name, part in state.items()}

    saved, loaded = sharded(lambda part: part), sharded(torch.zeros_like)
    clean(folder)
    save, _ = timed(lambda: dcp.save(saved, storage_writer=dcp.FileSystemWriter(folder, sync_files=True)))
    forget(folder)
    load, _ = timed(lambda: dcp.load(loaded, storage_reader=dcp.FileSystemReader(folder)))
    assert all(torch.equal(loaded[name].to_local(), state[name]) for name in state)
    return save, load


def with_torch_save(state, folder):
    path = f"{folder}/state-{dist.get_rank()}.pt"
    # Views of one storage would each be saved with all of it.
    parts = {name: part.clone() for name, part in state.items()}

    def write():
        with open(path, "wb") as f:
            torch.save(parts, f)
            f.flush()
            os.fsync(f.fileno())

    clean(folder)
    save, _ = timed(write)
    forget(folder)
    load, loaded = timed(lambda: torch.load(path, weights_only=True))
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    return save, load


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--layers", type=int, required=True)
    args = parser.parse_args()
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{args.state}/meeting-{os.getppid()}", rank=rank,
                            world_size=size)
    state = read_state(args.state, rank, size, args.layers)
    line = {}
    for name, method in (("dcp", with_dcp), ("torch", with_torch_save)):
        line[f"{name}_save"], line[f"{name}_load"] = method(state, args.dir)
        clean(args.dir)
    if rank == 0:
        print(json.dumps(line))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
