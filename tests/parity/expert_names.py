"""Experts as files hold them: a tensor for each matrix of each, where transformers 5 keeps those of a layer in one."""
# model_type: the layer's name in files, and the names of gate, up and down
FAMILIES = {
    "mixtral": (".block_sparse_moe", ("w1", "w3", "w2")),
    "deepseek_v2": (".mlp", ("gate_proj", "up_proj", "down_proj")),
    "deepseek_v3": (".mlp", ("gate_proj", "up_proj", "down_proj")),
    "qwen3_moe": (".mlp", ("gate_proj", "up_proj", "down_proj")),
}


def as_in_files(model, tensors):
    """`tensors` by the names that the model has for them in memory -> by those in files."""
    if model.config.model_type not in FAMILIES:
        return tensors
    layer, (gate, up, down) = FAMILIES[model.config.model_type]
    names = {}
    for name, t in tensors.items():
        experts = name.split(".mlp.")[0] + layer + ".experts"
        if name.endswith(".mlp.experts.gate_up_proj"):
            for e, (g, u) in enumerate(expert.chunk(2) for expert in t):
                names |= {f"{experts}.{e}.{gate}.weight": g, f"{experts}.{e}.{up}.weight": u}
        elif name.endswith(".mlp.experts.down_proj"):
            names |= {f"{experts}.{e}.{down}.weight": d for e, d in enumerate(t)}
        else:
            names[name.replace(".mlp.", layer + ".")] = t
    return names
