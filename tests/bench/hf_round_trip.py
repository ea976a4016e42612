#!/usr/bin/env python3
# bench: folders of every family from transformers through DeepFlow (and HDF5) back to transformers: tensors, dtypes, warnings
import dataclasses
import pathlib
import sys
import tempfile

import bench_tools as tools
import parity_models
import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
import expert_names
import make_goldens
from transformers_load import load_model

DTYPES = (torch.float32, torch.bfloat16)
LEFT_OUT = "left out: the module of multi-token prediction"


def in_files(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def is_same(a, b):
    return b is not None and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8),
                                                                                        b.view(torch.uint8))


def count_different(theirs, ours):
    theirs, ours = ({n: t.reshape(-1) if t.dim() == 0 else t for n, t in x.items()} for x in (theirs, ours))
    return sum(not is_same(t, ours.get(n)) for n, t in theirs.items()) + len(ours.keys() - theirs.keys())


def save_fused(model, folder):
    """As transformers 5 has it in memory: the experts of a layer in one tensor."""
    tensors = {n: t.contiguous().clone() for n, t in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def logits(model):
    """Products round otherwise where a weight begins at another address: in a mapped file that depends on its header."""
    with torch.no_grad():
        for p in list(model.parameters()) + list(model.buffers()):
            p.data = p.data.clone()
        return model(torch.arange(16).view(1, 16)).logits


def convert(build, folder, out, *options):
    return tools.run([f"{build}/bench_hf_round_trip", folder, out, *options]).stdout


def compare(name, build, folder, out, options, said):
    """What of the folder at `folder` is not as it was after the trip; a row of the table."""
    text = convert(build, folder, out, *options)
    assert text.startswith(said) and bool(text) == bool(said), f"{name}: said {text!r}"
    theirs, _ = load_model(folder, dtype="auto")
    ours, complaints = load_model(out, dtype="auto")
    before, after = in_files(folder), in_files(out)
    if said:  # what was left out is not compared
        before = {n: t for n, t in before.items() if not n.startswith(f"model.layers.{theirs.config.num_hidden_layers}.")}
    fused = any(n.endswith(".gate_up_proj") for n in before)
    bare = not any(n.startswith(("model.", "transformer.")) for n in before)
    if fused:
        before = expert_names.as_in_files(theirs, before)
    if bare:
        before = {theirs.base_model_prefix + "." + n: t for n, t in before.items()}
    different = count_different(before, after) + count_different(theirs.state_dict(), ours.state_dict())
    different += not torch.equal(logits(theirs), logits(ours))
    for complaint in complaints:
        print(f"{name}: {complaint.splitlines()[0]:.100}")
    return [name, theirs.config.model_type, len(after), different, len(complaints)]


def with_module(folder, model):
    """Adds transformers' own module of multi-token prediction, random, by the names of the published files."""
    module = make_goldens.make_module(model)
    make_goldens.randomise(module, torch.Generator().manual_seed(3))
    tensors = dict(module.named_parameters()) | make_goldens.correction_biases(module)
    tensors = make_goldens.public_names(tensors, model.config.num_hidden_layers)
    tensors = {n: t.detach().clone().contiguous() for n, t in expert_names.as_in_files(model, tensors).items()}
    save_file(load_file(folder / "model.safetensors") | tensors, folder / "model.safetensors", {"format": "pt"})


def folders(root):
    """(name, folder, what the program says, options) of every case."""
    for case in parity_models.cases():
        if "moderate" in case.name:
            continue
        said = LEFT_OUT if case.module else ""
        for dtype in DTYPES:
            folder = root / case.name / str(dtype)[6:]
            dataclasses.replace(case, dtype=torch.float32, shard_size="5GB").save(folder / "wide")
            # transformers' own narrow model, which keeps some tensors in f32.
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / "wide", dtype=dtype)
            dataclasses.replace(case, model=model).save_as_is(folder / "in")
            yield f"{case.name} {str(dtype)[6:]}", folder / "in", said, ()
            yield f"{case.name} {str(dtype)[6:]} hdf5", folder / "in", said, ("--hdf5", folder / "m.h5")
            if hasattr(model.config, "num_experts_per_tok"):
                dataclasses.replace(case, model=model).save_as_is(folder / "fused")
                save_fused(model, folder / "fused")
                yield f"{case.name} {str(dtype)[6:]} fused", folder / "fused", said, ()
    for layers, said in ((3, LEFT_OUT), (61, "")):
        model = parity_models.deepseek(3, layers, 16, 2, (8, 8), (4, 4, 4), (24, 8), 4, 2, (2, 1), modules=1)
        folder = root / f"module_{layers}"
        parity_models.randomise(model, torch.float32, 0.2)
        model.save_pretrained(folder)
        with_module(folder, model)
        yield f"deepseek_v3 module, {layers} layers", folder, said, ()
        yield f"deepseek_v3 module, {layers} layers, kept", folder, "", ("--module", "keep")


def main():
    args = tools.arguments()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_default_handler()
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for case, folder, said, options in folders(pathlib.Path(name)):
            rows.append(compare(case, args.build, folder, folder.parent / "out", options, said))
    tools.print_table(["folder", "family", "tensors", "different", "warnings"], rows)
    # With the module kept in a model of other than 61 layers a warning is what transformers is meant to give.
    counted = [row for row in rows if not row[0].endswith("3 layers, kept")]
    tools.finish({"families": len({row[1] for row in rows}), "folders": len(rows), "tensors": sum(r[2] for r in rows),
                  "different": sum(r[3] for r in rows), "warnings": sum(r[4] for r in counted),
                  "transformers": transformers.__version__})


if __name__ == "__main__":
    main()
