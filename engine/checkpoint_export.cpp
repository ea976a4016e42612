#include "engine/checkpoint_export.h"

#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/codecs/choice.h"
#include "checkpoint/hdf5_model.h"
#include "checkpoint/hdf5_model_writer.h"
#include "checkpoint/hf_folder_writer.h"
#include "checkpoint/hf_values.h"
#include "core/error.h"
#include "core/option_yaml.h"
#include "engine/checkpoint_model.h"

#include <nlohmann/json.hpp>

#include <cstring>
#include <functional>

namespace deepflow {
namespace {

using Json = nlohmann::json;

void add_notes(const StoredCheckpoint& checkpoint, ModelShell& shell, Exported& exported) {
  exported.parameters = shell.registry().num_elements();
  if (!shell.left_out().empty()) exported.notes.push_back(shell.left_out());
  const std::string lossy = checkpoint.manifest().lossy();
  if (!lossy.empty())
    exported.notes.push_back(fmt::format("LOSSY: the values come from an export in {}, not from training", lossy));
}

// Rounds to nearest even, as everywhere.
void narrow(std::span<const char> f32, std::span<char> bf16) {
  for (size_t i = 0; i < bf16.size() / sizeof(BF16); ++i) {
    float x;
    std::memcpy(&x, f32.data() + i * sizeof x, sizeof x);
    const BF16 y = to_bf16(x);
    std::memcpy(bf16.data() + i * sizeof y, &y, sizeof y);
  }
}

// Parameters that are asked for by box, from whole ones: the last stays in memory.
CheckpointContent content_of_model(ParameterRegistry& registry, DType dtype, ForeignTensor::WholeValue whole) {
  CheckpointContent content;
  for (const Parameter& p : registry.parameters())
    content.tensors.push_back(
        {kParametersPrefix + p.spec.name, dtype, p.spec.shape, Reshard::kSlice, 0, {whole_box(p.spec.shape)}});
  content.read = [&registry, value = ForeignTensor::remembering(std::move(whole)), part = std::vector<char>()](
                     const HeldEntry& e, const Box& box, std::span<char> out) mutable {
    const Parameter* p = registry.find(e.name.substr(std::strlen(kParametersPrefix)));
    const Tensor t = value(*p);
    part.resize(static_cast<size_t>(box.num_elements()) * sizeof(float));
    for_each_shared_run(e.boxes, {box}, [&](const SharedRun& run) {
      std::memcpy(part.data() + run.b * 4, static_cast<const char*>(t.raw()) + run.a * 4,
                  static_cast<size_t>(run.count) * 4);
    });
    if (e.dtype == DType::kBF16)
      narrow(part, out);
    else
      std::memcpy(out.data(), part.data(), part.size());
  };
  return content;
}

NewCheckpoint import_model(ModelShell& shell, const std::string& from, const std::string& out, int writers,
                           ForeignTensor::WholeValue whole) {
  CheckpointContent content = content_of_model(shell.registry(), DType::kF32, std::move(whole));
  content.run = Json{{"model", shell.config().to_hf()},
                     {"imported_from", from},
                     {"parameters_only", true},
                     {"deepflow", DEEPFLOW_VERSION}}
                    .dump();
  NewCheckpointOptions how;
  how.writers = writers;
  return write_new_checkpoint(out, content, how);
}

}  // namespace

bool may_be_coded(Role role) {
  return role == Role::kMatrix || role == Role::kExpert || role == Role::kEmbedding || role == Role::kHead;
}

std::unique_ptr<Tokenizer> tokenizer_of_run(const std::string& run, std::string& note) {
  const Json json = Json::parse(run, nullptr, false);
  const std::string digest = json.is_object() ? json.value("tokenizer", "") : "";
  std::string path;
  if (json.is_object() && json.contains("recipe") && json["recipe"].is_string())
    for (const OptionEntry& section : parse_yaml(json["recipe"], "recipe", false).entries)
      for (const OptionEntry& key : section.value.entries)
        if (section.key == "data" && key.key == "tokenizer") path = key.value.text;
  if (digest.empty() || path.empty())
    return note = "no tokenizer: the run had none; name one with --tokenizer", nullptr;
  std::unique_ptr<Tokenizer> found;
  try {
    found = load_tokenizer(path);
  } catch (const Error& e) {
    note = fmt::format("no tokenizer: {}; name one with --tokenizer", e.what());
    return nullptr;
  }
  if (found->digest() == digest) return found;
  note = fmt::format("no tokenizer: {} is not the one of the run (digest {}, expected {}); name one with --tokenizer",
                     path, found->digest().substr(0, 8), digest.substr(0, 8));
  return nullptr;
}

Exported export_hugging_face(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out, DType dtype,
                             const std::string& tokenizer_path) {
  Exported exported;
  CheckpointModel model(runtime, checkpoint, ModuleInFile::kAuto);
  add_notes(checkpoint, model.shell(), exported);
  std::string note;
  const std::unique_ptr<Tokenizer> tokenizer =
      tokenizer_path.empty() ? tokenizer_of_run(checkpoint.manifest().run, note) : load_tokenizer(tokenizer_path);
  if (!note.empty()) exported.notes.push_back(note);
  HfFolderOptions how;
  how.dtype = dtype;
  if (tokenizer && tokenizer->eos() != kNoToken) how.end_of_text = tokenizer->eos();
  write_hf_folder(runtime, out, model.shell().config().to_hf(), model.shell().names(), model.shell().registry(),
                  std::ref(model), how);
  if (tokenizer) save_tokenizer(*tokenizer, out);
  exported.bytes_read = model.bytes_read();
  return exported;
}

Exported export_hdf5(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out, DType dtype) {
  Exported exported;
  CheckpointModel model(runtime, checkpoint);
  add_notes(checkpoint, model.shell(), exported);
  Hdf5ModelOptions how;
  how.dtype = dtype;
  write_hdf5_model(runtime, out, model.shell().config().to_hf(), model.shell().registry(), std::ref(model), how);
  exported.bytes_read = model.bytes_read();
  return exported;
}

NewCheckpoint export_parameters(Runtime& runtime, const StoredCheckpoint& checkpoint, const std::string& out,
                                const ParameterExportOptions& options) {
  CheckpointModel model(runtime, checkpoint);
  ParameterRegistry& registry = model.shell().registry();
  CheckpointContent content = content_of_model(registry, options.dtype, std::ref(model));
  const std::optional<CodecId> codec = codec_from_name(options.codec);
  if (!codec && options.codec != "auto") throw ConfigError("{} is not a codec", options.codec);
  const bool is_lossy = codec && make_codec(*codec)->is_lossy();
  Json run = Json::parse(checkpoint.manifest().run);
  run["model"] = model.shell().config().to_hf();
  run["parameters_only"] = true;
  if (is_lossy) run["lossy"] = options.codec;
  content.step = checkpoint.manifest().step;
  content.run = run.dump();
  NewCheckpointOptions how;
  how.writers = options.writers;
  const auto chooser = std::make_shared<CodecChooser>();
  how.codec = [&, chooser](const StoredTensor& t, std::span<const char> values) {
    const Role role = registry.find(t.name.substr(std::strlen(kParametersPrefix)))->spec.role;
    if (codec && (!is_lossy || may_be_coded(role))) return *codec;
    return chooser->choose(values, t.dtype).codec;
  };
  return write_new_checkpoint(out, content, how);
}

NewCheckpoint import_hugging_face(Runtime& runtime, const std::string& folder, const std::string& out, int writers) {
  const HfFolder from(folder);
  ModelShell shell(from);
  const HfValues values(runtime, from, shell.names(), shell.registry());
  return import_model(shell, folder, out, writers, std::ref(values));
}

NewCheckpoint import_hdf5(Runtime& runtime, const std::string& file, const std::string& out, int writers) {
  const Hdf5Model from(file);
  ModelShell shell(from.config(), file);
  from.check(shell.registry());
  return import_model(shell, file, out, writers, [&](const Parameter& p) { return from.whole(runtime, p); });
}

}  // namespace deepflow
