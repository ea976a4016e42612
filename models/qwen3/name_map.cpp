#include "models/qwen3/name_map.h"

#include "models/parts/decoder_names.h"

namespace deepflow {

ForeignNames qwen3_hugging_face_names(const Qwen3Config& c) {
  return decoder_names(c.layers, c.tie_embeddings,
                       {{".input_layernorm", ".attention_norm"},
                        {".self_attn.q_proj", ".attention.q", c.attention_bias},
                        {".self_attn.k_proj", ".attention.k", c.attention_bias},
                        {".self_attn.v_proj", ".attention.v", c.attention_bias},
                        {".self_attn.q_norm", ".attention.q_norm"},
                        {".self_attn.k_norm", ".attention.k_norm"},
                        {".self_attn.o_proj", ".attention.out", c.attention_bias},
                        {".post_attention_layernorm", ".mlp_norm"},
                        {".mlp.gate_proj", ".mlp.gate"},
                        {".mlp.up_proj", ".mlp.up"},
                        {".mlp.down_proj", ".mlp.down"}});
}

}  // namespace deepflow
