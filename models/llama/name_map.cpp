#include "models/llama/name_map.h"

#include "models/parts/decoder_names.h"

namespace deepflow {

ForeignNames llama_hugging_face_names(const LlamaConfig& c) {
  return decoder_names(c.layers, c.tie_embeddings,
                       {{".input_layernorm", ".attention_norm"},
                        {".self_attn.q_proj", ".attention.q", c.attention_bias},
                        {".self_attn.k_proj", ".attention.k", c.attention_bias},
                        {".self_attn.v_proj", ".attention.v", c.attention_bias},
                        {".self_attn.o_proj", ".attention.out", c.attention_bias},
                        {".post_attention_layernorm", ".mlp_norm"},
                        {".mlp.gate_proj", ".mlp.gate", c.mlp_bias},
                        {".mlp.up_proj", ".mlp.up", c.mlp_bias},
                        {".mlp.down_proj", ".mlp.down", c.mlp_bias}});
}

}  // namespace deepflow
