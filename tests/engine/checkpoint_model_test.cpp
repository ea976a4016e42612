#include "engine/checkpoint_model.h"

#include "checkpoint/blockstore/new_checkpoint.h"
#include "checkpoint/blockstore/tensor_parts.h"
#include "core/error.h"
#include "engine/serving_size.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/core/error_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstring>
#include <functional>

namespace deepflow {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ScratchFolder;

const json kLlama = {{"model_type", "llama"},        {"num_hidden_layers", 2}, {"hidden_size", 16},
                     {"num_attention_heads", 2},     {"vocab_size", 97},       {"intermediate_size", 24},
                     {"max_position_embeddings", 32}};

using testing::error_of;

// A checkpoint of the model whose values are the elements' numbers; `change` may spoil it.
std::string checkpoint_in(const std::string& dir, const std::function<void(CheckpointContent&)>& change,
                          const json& run = {{"model", kLlama}}) {
  ModelShell shell(kLlama, "config.json");
  CheckpointContent content;
  content.run = run.dump();
  for (const Parameter& p : shell.registry().parameters())
    content.tensors.push_back(
        {kParametersPrefix + p.spec.name, DType::kF32, p.spec.shape, Reshard::kSlice, 0, {whole_box(p.spec.shape)}});
  content.read = [](const HeldEntry&, const Box& box, std::span<char> out) {
    for (int64_t i = 0; i < box.num_elements(); ++i) {
      const auto x = static_cast<float>(i);
      std::memcpy(out.data() + 4 * i, &x, 4);
    }
  };
  change(content);
  return write_new_checkpoint(dir, content, {}).path;
}

const auto kAsItIs = [](CheckpointContent&) {};

TEST(CheckpointModel, GivesWholeAndLocalValues) {
  const ScratchFolder folder;
  Runtime runtime({.threads = 1});
  const StoredCheckpoint checkpoint(checkpoint_in(folder / "c", kAsItIs));
  CheckpointModel model(runtime, checkpoint);
  Parameter gate = *model.shell().registry().find("layers.1.mlp.gate.weight");
  const Tensor whole = model(gate);
  EXPECT_EQ(whole.shape(), (Shape{24, 16}));
  EXPECT_EQ(whole.data<float>()[24 * 16 - 1], 24 * 16 - 1);
  gate.boxes = {{{12, 4}, {24, 8}}};  // as a rank of another layout has it
  gate.local_shape = Shape{12, 4};
  const Tensor local = model.local(gate);
  for (int64_t i = 0; i < 48; ++i) EXPECT_EQ(local.data<float>()[i], static_cast<float>((12 + i / 4) * 16 + 4 + i % 4));
}

TEST(CheckpointModel, ReadsTheModelOfARecipe) {
  const ScratchFolder folder;
  const json run = {
      {"recipe",
       "model: {family: llama, layers: 2, width: 16, heads: 2, ffn: 24, vocabulary: 97, max_positions: 32, "
       "recompute: none}\ndata: {tokenizer: byte}\n"}};
  Runtime runtime({.threads = 1});
  const StoredCheckpoint checkpoint(checkpoint_in(folder / "c", kAsItIs, run));
  EXPECT_EQ(CheckpointModel(runtime, checkpoint).shell().config().family(), "llama");
}

TEST(CheckpointModel, ListsAllParametersThatDoNotFit) {
  const ScratchFolder folder;
  Runtime runtime({.threads = 1});
  const StoredCheckpoint checkpoint(checkpoint_in(folder / "c", [](CheckpointContent& content) {
    for (HeldEntry& e : content.tensors) {
      if (e.name == "parameters/norm.weight") e.name = "parameters/other.weight";
      if (e.name == "parameters/layers.0.mlp.up.weight") e.shape = Shape{16, 24}, e.boxes = {whole_box(e.shape)};
    }
  }));
  EXPECT_THAT(error_of([&] { CheckpointModel(runtime, checkpoint); }),
              AllOf(HasSubstr("1 missing: norm.weight"), HasSubstr("1 unexpected: parameters/other.weight"),
                    HasSubstr("layers.0.mlp.up.weight (the model has [24, 16], the checkpoint f32 [16, 24])")));
}

TEST(CheckpointModel, NeedsToKnowTheModel) {
  const ScratchFolder folder;
  Runtime runtime({.threads = 1});
  const StoredCheckpoint nothing(checkpoint_in(folder / "a", kAsItIs, json::object()));
  EXPECT_THAT(error_of([&] { CheckpointModel(runtime, nothing); }), HasSubstr("does not say what model it is of"));
  const StoredCheckpoint no_model(checkpoint_in(folder / "b", kAsItIs, {{"recipe", "data: {tokenizer: byte}"}}));
  EXPECT_THAT(error_of([&] { CheckpointModel(runtime, no_model); }), HasSubstr("has no model"));
}

TEST(ServingSize, CountsWeightsAndCache) {
  const ScratchFolder folder;
  const ServingSize s = serving_size(StoredCheckpoint(checkpoint_in(folder / "c", kAsItIs)));
  const int64_t matrices = 2 * 97 * 16 + 2 * (4 * 16 * 16 + 3 * 16 * 24), norms = 5 * 16;
  EXPECT_EQ(s.parameters, matrices + norms);
  EXPECT_EQ(s.active, s.parameters);
  EXPECT_EQ(s.bf16, 2 * s.parameters);
  const int64_t groups = 2 * 25 + 2 * (4 * 4 + 3 * 6);  // of 64; 97 * 16 fill 24 and a quarter
  EXPECT_EQ(s.int8, matrices + 4 * groups + 4 * norms);
  EXPECT_EQ(s.nf4, matrices / 2 + 4 * groups + 4 * norms);
  EXPECT_EQ(s.cache_bytes, 2 * 2 * (16 + 16));  // bf16, layers, keys and values
  EXPECT_EQ(s.context, 32);
  EXPECT_EQ(s.largest_elements, 97 * 16);
}

}  // namespace
}  // namespace deepflow
