#include "engine/run_checkpoints.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace deepflow {
namespace {

using Json = nlohmann::json;

constexpr double kNoticeable = 0.1;  // s

std::string gigabytes(int64_t bytes) {
  return bytes < 100'000'000 ? fmt::format("{:.2f} MB", static_cast<double>(bytes) * 1e-6)
                             : fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9);
}

Json json_of_layout(const ParallelOptions& p, int ranks) {
  return {{"ranks", ranks}, {"tp", p.tp},      {"cp", p.cp}, {"ep", p.ep},
          {"etp", p.etp},   {"pp", p.pp},      {"vp", p.vp}, {"schedule", p.schedule},
          {"zero", p.zero}, {"shard", p.shard}};
}

void check_tokenizer(const Resumed& resumed, const std::string& tokenizer_digest) {
  const Json json = Json::parse(resumed.run, nullptr, false);
  const std::string theirs = json.is_object() && json["tokenizer"].is_string() ? json["tokenizer"] : "";
  if (theirs != tokenizer_digest)
    throw ConfigError(
        "checkpoint.resume: {} was trained with tokenizer {}, and the recipe's is {} (data.tokenizer); take that one, "
        "or "
        "another checkpoint.dir",
        resumed.path, theirs.empty() ? "none" : theirs.substr(0, 8),
        tokenizer_digest.empty() ? "none" : tokenizer_digest.substr(0, 8));
}

}  // namespace

CheckpointOptions checkpoint_options(const RunOptions& options) {
  CheckpointOptions o = options.checkpoint;
  if (o.dir.empty()) o.dir = options.run.dir + "/checkpoints";
  return o;
}

std::string run_as_json(const std::string& recipe_yaml, const ParallelOptions& layout, int ranks,
                        const std::string& tokenizer_digest) {
  return Json{{"recipe", recipe_yaml},
              {"layout", json_of_layout(layout, ranks)},
              {"layers", layout.layers},
              {"tokenizer", tokenizer_digest},
              {"deepflow", DEEPFLOW_VERSION}}
      .dump();
}

std::vector<int> layers_of_resumed_run(const RunOptions& options, Communicator& all) {
  const CheckpointOptions checkpoint = checkpoint_options(options);
  if (checkpoint.every == 0 && checkpoint.resume == "auto") return {};
  const ThreadPool pool(1);
  const std::string run = Checkpointer(all, checkpoint, pool).peek();
  const Json json = Json::parse(run, nullptr, false);
  if (!json.is_object() || json.value("layout", Json()) != json_of_layout(options.parallel, all.size())) return {};
  const Json layers = json.value("layers", Json::array());
  const bool good = layers.is_array() &&
                    std::all_of(layers.begin(), layers.end(), [](const Json& n) { return n.is_number_integer(); });
  return good ? layers.get<std::vector<int>>() : std::vector<int>();
}

RunCheckpoints::RunCheckpoints(const RunOptions& options, Communicator& all, const ThreadPool& pool)
    : options_(checkpoint_options(options)), steps_(options.train.steps) {
  if (options_.every > 0 || (options_.resume != "auto" && options_.resume != "never"))
    checkpointer_ = std::make_unique<Checkpointer>(all, options_, pool);
}

std::vector<std::string> RunCheckpoints::resume(Trainer& trainer, const std::string& tokenizer_digest) {
  if (!checkpointer_) return {};
  resumed_ = checkpointer_->resume(trainer);
  if (!resumed_) return {fmt::format("resume   none found in {}, starting at step 0", options_.dir)};
  check_tokenizer(*resumed_, tokenizer_digest);
  std::vector<std::string> lines;
  for (const std::string& damage : resumed_->passed_by) lines.push_back("resume   passed by: " + damage);
  lines.push_back(fmt::format("resume   step {} from {}: {} read and verified in {:.2f} s", resumed_->step,
                              resumed_->path, gigabytes(resumed_->bytes), resumed_->seconds));
  if (resumed_->step >= steps_)
    lines.push_back(fmt::format("resume   all {} steps are done: raise train.steps, or take another run.dir", steps_));
  return lines;
}

bool RunCheckpoints::is_due(int64_t step) const {
  return options_.every > 0 && (step % options_.every == 0 || step == steps_);
}

std::vector<SaveReport> RunCheckpoints::after_step(Trainer& trainer, int64_t step, const std::string& run) {
  if (!checkpointer_) return {};
  std::vector<SaveReport> ended = checkpointer_->reports(false);
  if (!is_due(step)) return ended;
  checkpointer_->save(trainer, step, run);
  for (SaveReport& report : checkpointer_->reports(!options_.async)) ended.push_back(std::move(report));
  return ended;
}

std::vector<SaveReport> RunCheckpoints::finish() {
  return checkpointer_ ? checkpointer_->reports(true) : std::vector<SaveReport>();
}

std::string describe(const SaveReport& r) {
  if (!r.error.empty()) return fmt::format("checkpoint of step {} failed, training goes on: {}", r.step, r.error);
  std::string text =
      fmt::format("checkpoint of step {}: {} in {}", r.step, gigabytes(r.stats.raw), gigabytes(r.stats.stored));
  if (r.stats.referenced > 0) text += fmt::format(", {} referred to", gigabytes(r.stats.referenced));
  if (r.stats.differences > 0) text += fmt::format(", {} as differences", gigabytes(r.stats.differences));
  if (!r.codecs.empty()) text += fmt::format(" ({})", r.codecs);
  text += fmt::format("; copied in {:.3f} s, written in {:.2f} s", r.snapshot, r.writing);
  if (r.waited > kNoticeable) text += fmt::format("; waited {:.2f} s for the one before", r.waited);
  if (!r.warning.empty()) text += "; older ones stay: " + r.warning;
  return text;
}

}  // namespace deepflow
