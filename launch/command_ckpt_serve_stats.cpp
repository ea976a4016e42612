#include "checkpoint/blockstore/find_checkpoint.h"
#include "core/error.h"
#include "engine/progress.h"
#include "engine/serving_size.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <memory>
#include <string>

namespace deepflow {
namespace {

struct ServeStatsArguments {
  std::string checkpoint;
  bool json = false;
};

void print_text(const StoredCheckpoint& checkpoint, const ServingSize& s) {
  const auto count = [](int64_t n) { return short_count(static_cast<double>(n)); };
  fmt::print("{}\n", checkpoint.path());
  if (const std::string lossy = lossy_text(checkpoint.manifest()); !lossy.empty()) fmt::print("{}\n", lossy);
  fmt::print("model       {}, {} parameters", s.family, count(s.parameters));
  if (s.active != s.parameters) fmt::print(", {} of them for a token", count(s.active));
  fmt::print("\nweights     f32 {}, bf16 {}, int8 {}, nf4 {}\n", bytes_text(s.f32), bytes_text(s.bf16),
             bytes_text(s.int8), bytes_text(s.nf4));
  fmt::print("cache       {} a token in {} layers, bf16", bytes_text(s.cache_bytes), s.layers);
  if (s.full_cache_bytes != s.cache_bytes)
    fmt::print(" (latent rows; keys and values of all heads: {})", bytes_text(s.full_cache_bytes));
  fmt::print("\ncontext     {} positions: {} of cache for a sequence of that length\n", s.context,
             bytes_text(s.cache_bytes * s.context));
  fmt::print("largest     {}, {} elements\n", s.largest, s.largest_elements);
}

nlohmann::json json_of(const ServingSize& s) {
  return {{"family", s.family},
          {"parameters", s.parameters},
          {"active", s.active},
          {"bytes", {{"f32", s.f32}, {"bf16", s.bf16}, {"int8", s.int8}, {"nf4", s.nf4}}},
          {"layers", s.layers},
          {"context", s.context},
          {"cache_bytes_per_token", s.cache_bytes},
          {"full_cache_bytes_per_token", s.full_cache_bytes},
          {"largest", {{"name", s.largest}, {"elements", s.largest_elements}}}};
}

int serve_stats(const ServeStatsArguments& arguments) {
  const StoredCheckpoint checkpoint(find_checkpoint(arguments.checkpoint));
  const ServingSize size = serving_size(checkpoint);
  if (arguments.json)
    print_json(json_of(size));
  else
    print_text(checkpoint, size);
  return 0;
}

}  // namespace

void add_ckpt_serve_stats(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<ServeStatsArguments>();
  CLI::App* command = cli.add_command(
      "serve-stats", "what it takes to serve a checkpoint's model", [arguments] { return serve_stats(*arguments); },
      ckpt);
  command->add_option("checkpoint", arguments->checkpoint, "DIR/step-NNNNNNNN; of a folder of them the newest")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_flag("--json", arguments->json, "for programs");
}

}  // namespace deepflow
