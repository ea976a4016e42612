#include "checkpoint/blockstore/find_checkpoint.h"
#include "checkpoint/blockstore/value_statistics.h"
#include "core/error.h"
#include "engine/checkpoint_model.h"
#include "engine/progress.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

struct ShowArguments {
  std::string checkpoint, tensor;
  bool tensors = false, recipe = false, json = false;
};

struct KindOfState {
  int64_t tensors = 0;
  StoredSize size;
};
using Kinds = std::map<std::string, KindOfState>;

Kinds kinds_of(const StoredCheckpoint& checkpoint) {
  Kinds kinds;
  for (const StoredTensor& t : checkpoint.manifest().tensors) {
    KindOfState& kind = kinds[state_kind(t.name)];
    ++kind.tensors;
    kind.size += stored_size(checkpoint, t);
  }
  return kinds;
}

std::string text_of(const nlohmann::json& run, const char* key) {
  return run.contains(key) && run[key].is_string() ? run[key].get<std::string>() : "";
}

std::string model_text(const StoredCheckpoint& checkpoint) {
  int64_t elements = 0;
  for (const StoredTensor& t : checkpoint.manifest().tensors)
    if (state_kind(t.name) == "parameters") elements += t.shape.num_elements();
  const nlohmann::json model = model_of_run(checkpoint.manifest().run, checkpoint.path());
  return fmt::format("{}, {} parameters", model.value("model_type", "?"), short_count(static_cast<double>(elements)));
}

void print_run(const StoredCheckpoint& checkpoint) {
  const Manifest& m = checkpoint.manifest();
  const nlohmann::json run = run_of(m);
  fmt::print("{}\n", checkpoint.path());
  if (!m.lossy().empty())
    fmt::print("LOSSY      an export in {}: the values are not those that were trained\n", m.lossy());
  fmt::print("step       {}\n", m.step);
  const std::string layout = layout_text(run), program = text_of(run, "deepflow"), digest = text_of(run, "tokenizer"),
                    from = text_of(run, "imported_from");
  if (!program.empty()) fmt::print("run        DeepFlow {}{}{}\n", program, layout.empty() ? "" : ", ", layout);
  if (!from.empty()) fmt::print("model of   {}\n", from);
  fmt::print("tokenizer  {}\n", digest.empty() ? "none" : digest);
  try {
    fmt::print("model      {}\n", model_text(checkpoint));
  } catch (const Error&) {  // a manifest need not tell
  }
  fmt::print("files      {} writer{}\n", m.files.size(), m.files.size() == 1 ? "" : "s");
  fmt::print("recipe     {}\n\n", run.contains("recipe") ? "printed by --recipe" : "none");
}

void print_row(const std::string& name, int64_t tensors, const StoredSize& size) {
  fmt::print("{:<24} {:>7} {:>10} {:>10} {:>10} {:>6.3f}  {}\n", name, tensors, bytes_text(size.raw),
             bytes_text(size.own), bytes_text(size.shared), size.ratio(), codecs_text(size));
}

void print_kinds(const Kinds& kinds) {
  fmt::print("{:<24} {:>7} {:>10} {:>10} {:>10} {:>6}  {}\n", "state", "tensors", "raw", "stored", "shared", "ratio",
             "blocks");
  KindOfState all;
  for (const auto& [name, kind] : kinds) {
    print_row(name, kind.tensors, kind.size);
    all.tensors += kind.tensors;
    all.size += kind.size;
  }
  print_row("all", all.tensors, all.size);
}

void print_tensors(const StoredCheckpoint& checkpoint, const std::vector<const StoredTensor*>& tensors) {
  fmt::print("{:<52} {:<5} {:<18} {:>6} {:>10} {:>6}  {}\n", "tensor", "dtype", "shape", "slices", "raw", "ratio",
             "blocks");
  for (const StoredTensor* t : tensors) {
    const StoredSize size = stored_size(checkpoint, *t);
    fmt::print("{:<52} {:<5} {:<18} {:>6} {:>10} {:>6.3f}  {}\n", t->name, name_of(t->dtype), t->shape.to_string(),
               t->slices.size(), bytes_text(size.raw), size.ratio(), codecs_text(size));
  }
}

nlohmann::json json_of(const StoredCheckpoint& checkpoint, const StoredTensor& t) {
  return {{"name", t.name},
          {"dtype", name_of(t.dtype)},
          {"shape", std::vector<int64_t>(t.shape.begin(), t.shape.end())},
          {"slices", t.slices.size()},
          {"size", json_of(stored_size(checkpoint, t))}};
}

nlohmann::json json_of(const ValueStatistics& s, int64_t bytes_read) {
  nlohmann::json json = {{"elements", s.elements}, {"nan", s.nan},   {"infinite", s.infinite},
                         {"zeros", s.zeros},       {"mean", s.mean}, {"deviation", s.deviation()},
                         {"min", nullptr},         {"max", nullptr}, {"bytes_read", bytes_read}};
  if (s.finite() > 0) json["min"] = s.min, json["max"] = s.max;
  return json;
}

const StoredTensor& find_tensor(const StoredCheckpoint& checkpoint, const std::string& name) {
  if (const StoredTensor* t = checkpoint.manifest().find(name)) return *t;
  std::vector<std::string> names;
  for (const StoredTensor& t : checkpoint.manifest().tensors) names.push_back(t.name);
  if (const StoredTensor* t = checkpoint.manifest().find("parameters/" + name)) return *t;
  throw ConfigError("{}: has no tensor {}{}; --tensors lists them", checkpoint.path(), name,
                    nearest_name_hint(name, names));
}

void show_tensor(const StoredCheckpoint& checkpoint, const StoredTensor& tensor, bool as_json) {
  TensorReader reader(checkpoint);
  const ValueStatistics s = value_statistics(reader, tensor);
  if (as_json) {
    nlohmann::json json = json_of(checkpoint, tensor);
    json["values"] = json_of(s, reader.bytes_read());
    return print_json(json);
  }
  print_tensors(checkpoint, {&tensor});
  for (const StoredSlice& slice : tensor.slices) {
    std::string boxes;
    for (const Box& b : slice.boxes) boxes += fmt::format(" [{}]..[{}]", fmt::join(b.lo, ", "), fmt::join(b.hi, ", "));
    fmt::print("  {} block{} of {}:{}\n", slice.num_blocks, slice.num_blocks == 1 ? "" : "s",
               data_file_name(slice.file), boxes);
  }
  fmt::print(
      "values     {} elements, min {:g}, max {:g}, mean {:g}, standard deviation {:g}, {} zeros, {} NaN, {} infinite\n",
      s.elements, s.finite() > 0 ? s.min : 0, s.finite() > 0 ? s.max : 0, s.mean, s.deviation(), s.zeros, s.nan,
      s.infinite);
  fmt::print("read       {} bytes of blocks, each compared with its digest\n", reader.bytes_read());
}

nlohmann::json json_of(const StoredCheckpoint& checkpoint, const Kinds& kinds, bool with_tensors) {
  const Manifest& m = checkpoint.manifest();
  nlohmann::json json = {
      {"path", checkpoint.path()}, {"step", m.step}, {"run", run_of(m)}, {"writers", m.files.size()}};
  for (const auto& [name, kind] : kinds)
    json["state"][name] = {{"tensors", kind.tensors}, {"size", json_of(kind.size)}};
  if (with_tensors)
    for (const StoredTensor& t : m.tensors) json["tensors"].push_back(json_of(checkpoint, t));
  return json;
}

int show(const ShowArguments& arguments) {
  const StoredCheckpoint checkpoint(find_checkpoint(arguments.checkpoint));
  if (!arguments.tensor.empty()) {
    show_tensor(checkpoint, find_tensor(checkpoint, arguments.tensor), arguments.json);
    return 0;
  }
  if (arguments.recipe) {
    const std::string recipe = text_of(run_of(checkpoint.manifest()), "recipe");
    if (recipe.empty()) throw ConfigError("{}: was not written by a run, it has no recipe", checkpoint.path());
    fmt::print("{}", recipe);
    return 0;
  }
  const Kinds kinds = kinds_of(checkpoint);
  if (arguments.json) {
    print_json(json_of(checkpoint, kinds, arguments.tensors));
    return 0;
  }
  print_run(checkpoint);
  print_kinds(kinds);
  if (!arguments.tensors) return 0;
  std::vector<const StoredTensor*> tensors;
  for (const StoredTensor& t : checkpoint.manifest().tensors) tensors.push_back(&t);
  fmt::print("\n");
  print_tensors(checkpoint, tensors);
  return 0;
}

}  // namespace

void add_ckpt_show(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<ShowArguments>();
  CLI::App* command = cli.add_command(
      "show", "what a checkpoint holds", [arguments] { return show(*arguments); }, ckpt);
  command->add_option("checkpoint", arguments->checkpoint, "DIR/step-NNNNNNNN; of a folder of them the newest")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_flag("--tensors", arguments->tensors, "every tensor as well");
  command->add_option("--tensor", arguments->tensor, "this tensor alone, with figures of its values")
      ->type_name("NAME");
  command->add_flag("--recipe", arguments->recipe, "the run's recipe alone, as deepflow train reads it");
  command->add_flag("--json", arguments->json, "for programs");
}

}  // namespace deepflow
