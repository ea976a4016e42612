#include "models/gemma2/name_map.h"

#include "models/parts/decoder_names.h"

namespace deepflow {

ForeignNames gemma2_hugging_face_names(const Gemma2Config& c) {
  return decoder_names(c.layers, c.tie_embeddings,
                       {{".input_layernorm", ".attention_norm"},
                        {".self_attn.q_proj", ".attention.q"},
                        {".self_attn.k_proj", ".attention.k"},
                        {".self_attn.v_proj", ".attention.v"},
                        {".self_attn.o_proj", ".attention.out"},
                        {".post_attention_layernorm", ".attention_post_norm"},
                        {".pre_feedforward_layernorm", ".mlp_norm"},
                        {".mlp.gate_proj", ".mlp.gate"},
                        {".mlp.up_proj", ".mlp.up"},
                        {".mlp.down_proj", ".mlp.down"},
                        {".post_feedforward_layernorm", ".mlp_post_norm"}});
}

}  // namespace deepflow
