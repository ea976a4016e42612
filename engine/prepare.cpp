#include "engine/prepare.h"

#include "checkpoint/blockstore/find_checkpoint.h"
#include "checkpoint/hf_folder.h"
#include "core/error.h"
#include "data/token_store.h"
#include "engine/checkpoint_export.h"
#include "engine/checkpoint_model.h"
#include "engine/thread_share.h"
#include "kernels/ops/elementwise.h"
#include "optim/optimizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <set>

namespace deepflow {
namespace {

int64_t vocabulary_of(const DataOptions& data, const Tokenizer* tokenizer) {
  if (tokenizer) return tokenizer->vocabulary_size();
  int64_t vocabulary = 0;
  for (const StoreOptions& store : data.train)
    vocabulary = std::max(vocabulary, open_token_store(store.store)->vocabulary_size());
  return vocabulary;
}

const OptionGroup* model_keys(const OptionGroup* keys) {
  const Option* model = keys ? keys->find("model") : nullptr;
  return model ? model->section() : nullptr;
}

void set_values_of_checkpoint(Session& session, const std::string& path) {
  const StoredCheckpoint checkpoint(path);
  CheckpointModel model(session.runtime(), checkpoint);
  model.check(session.registry());
  for (const Parameter& p : session.registry().parameters())
    if (p.pack->local) session.store().load(p, model.local(p));
  session.store().state_written();
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const DataOptions& data) {
  return data.tokenizer.empty() ? nullptr : load_tokenizer(data.tokenizer);
}

std::unique_ptr<Tokenizer> open_model_tokenizer(const std::string& model_folder) {
  std::string why;
  if (is_checkpoint(model_folder)) return tokenizer_of_run(StoredCheckpoint(model_folder).manifest().run, why);
  return std::filesystem::exists(model_folder + "/tokenizer.json") ? load_tokenizer(model_folder) : nullptr;
}

void complete_model(RunOptions& options, const Tokenizer* tokenizer, const OptionGroup* keys) {
  const std::string& from = options.model.init_from;
  if (is_checkpoint(from)) {
    const StoredCheckpoint checkpoint(from);
    options.model.read_hf(model_of_run(checkpoint.manifest().run, from), from, model_keys(keys));
  } else if (!from.empty()) {
    const HfFolder folder(options.model.init_from);
    options.model.read_hf(folder.config(), folder.config_path(), model_keys(keys));
  }
  options.model.fill_in(vocabulary_of(options.data, tokenizer), options.data.sequence, model_keys(keys));
}

void set_initial_values(Session& session, const RunOptions& options) {
  if (options.model.init_from.empty()) {
    session.store().initialise(options.train.seed);
    return;
  }
  if (is_checkpoint(options.model.init_from)) return set_values_of_checkpoint(session, options.model.init_from);
  const HfFolder folder(options.model.init_from);
  // Folders that transformers writes lack the module of multi-token prediction: it begins as in a new model.
  const bool has_module = session.model().shape().mtp > 0;
  if (has_module) session.store().initialise(options.train.seed);
  // A rank may keep less than the local part: one parameter at a time passes through memory.
  const Parameter* loading = nullptr;
  Tensor value;
  std::set<const Parameter*> loaded;
  const auto keep = [&] {
    if (loading) session.store().load(*loading, value);
    loaded.insert(loading);
  };
  folder.load(session.runtime(), session.model().hugging_face_names(), session.registry(), [&](const Parameter& p) {
    if (loading == &p) return value;
    keep();
    loading = &p;
    value = Tensor::empty(session.runtime().memory(), p.local_shape, DType::kF32);
    return value;
  });
  keep();
  for (const Parameter& p : session.registry().parameters()) {
    if (!p.pack->local || loaded.count(&p) > 0) continue;
    if (has_module && p.spec.init.kind != Initialiser::Kind::kConstant) continue;
    DF_ASSERT(p.spec.init.kind == Initialiser::Kind::kConstant, "{} was not in the folder", p.spec.name);
    value = Tensor::empty(session.runtime().memory(), p.local_shape, DType::kF32);
    fill(session.runtime(), value, p.spec.init.value);
    session.store().load(p, value);
  }
  session.store().state_written();
}

SessionOptions session_options(const RunOptions& options, Communicator& all) {
  SessionOptions s;
  s.precision = options.train.precision;
  const ThreadShare share = share_threads(all);
  s.threads = options.train.threads > 0 ? options.train.threads : share.threads;
  if (s.threads == share.threads && options.train.pin_threads) s.cpus = share.cpus;
  s.weight_forms = options.train.weight_forms;
  s.cpu_isa = options.train.cpu_isa;
  s.bucket_elements = options.train.bucket_elements;
  s.unit = find_optimizer(options.optim.name).unit;
  return s;
}

SessionOptions training_session_options(const RunOptions& options, Communicator& all) {
  SessionOptions s = session_options(options, all);
  s.training = TrainingMemory{options.train, options.data.sequence, options.optim};
  return s;
}

std::string find_model_folder(const std::string& path) {
  for (const std::string& folder : {path + "/model", path})
    if (std::filesystem::exists(folder + "/config.json")) return folder;
  if (is_checkpoint(path)) return path;
  throw ConfigError(
      "{}: no model here (no config.json, no model/config.json, no commit); give a run folder, a Hugging Face folder "
      "or a checkpoint",
      path);
}

}  // namespace deepflow
