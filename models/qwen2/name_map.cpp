#include "models/qwen2/name_map.h"

#include "models/parts/decoder_names.h"

namespace deepflow {

ForeignNames qwen2_hugging_face_names(const Qwen2Config& c) {
  return decoder_names(c.layers, c.tie_embeddings,
                       {{".input_layernorm", ".attention_norm"},
                        {".self_attn.q_proj", ".attention.q", true},
                        {".self_attn.k_proj", ".attention.k", true},
                        {".self_attn.v_proj", ".attention.v", true},
                        {".self_attn.o_proj", ".attention.out"},
                        {".post_attention_layernorm", ".mlp_norm"},
                        {".mlp.gate_proj", ".mlp.gate"},
                        {".mlp.up_proj", ".mlp.up"},
                        {".mlp.down_proj", ".mlp.down"}});
}

}  // namespace deepflow
