#include "engine/training_run.h"

#include "checkpoint/hf_folder_writer.h"
#include "core/durable_file.h"
#include "core/error.h"
#include "core/option_text.h"
#include "core/option_yaml.h"
#include "data/loader.h"
#include "engine/comm_meter.h"
#include "engine/gemm_peak.h"
#include "engine/layer_cost.h"
#include "engine/pipeline_plan.h"
#include "engine/prepare.h"
#include "engine/run_checkpoints.h"
#include "engine/run_report.h"
#include "engine/run_trace.h"
#include "engine/whole_parameters.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>

namespace deepflow {
namespace {

constexpr double kPeakSeconds = 0.03;
constexpr int64_t kPeakAgain = 4;  // behind step 1, and whenever so many times as many steps are done

void make_run_folder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) throw StorageError("run.dir: {} cannot be created: {}", dir, error.message());
}

std::string millions(int64_t n) { return short_count(static_cast<double>(n)); }

double total_gemm_rate(Session& session, DType dtype, Communicator& comm) {
  comm.barrier("GEMM rate")->wait_host();  // ranks that share cores measure what is left for each
  const double mine = measure_gemm_peak(session.runtime(), dtype, kPeakSeconds);
  return sum_doubles(comm, std::span(&mine, 1), "GEMM rate").front();
}

// One run, taken apart into its stages.
class Run {
 public:
  Run(RunOptions& options, const OptionGroup& keys, World& world)
      : options_(options),
        world_(world),
        tokenizer_(open_tokenizer(options.data)),
        mesh_(world.all(), layout_of(options.parallel, world.size())) {
    complete_model(options_, tokenizer_.get(), &keys);
    choose_layers();
    session_ = std::make_unique<Session>(options_.model, training_session_options(options_, world.all()), mesh_,
                                         options_.parallel, options_.data.sequence);
    world_.record_spans(&session_->runtime().trace());
    open_data();
    set_initial_values(*session_, options_);
    trainer_ =
        std::make_unique<Trainer>(session_->machine(), options_.train, options_.optim, options_.parallel, *loader_);
    gemm_rate_ = total_gemm_rate(*session_, session_->store().compute(), world_.all());
    const std::string recipe = to_yaml(keys.write(), false);
    run_json_ = run_as_json(recipe, options_.parallel, world_.size(), tokenizer_ ? tokenizer_->digest() : "");
    checkpoints_ = std::make_unique<RunCheckpoints>(options_, world_.all(), session_->runtime().pool());
    resume_lines_ = checkpoints_->resume(*trainer_, tokenizer_ ? tokenizer_->digest() : "");
    if (is_first()) {
      make_run_folder(options_.run.dir);
      write_file_durably(options_.run.dir + "/recipe.yaml", recipe);
    }
  }
  ~Run() { world_.record_spans(nullptr); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  TrainingResult train() {
    const int64_t first = checkpoints_->first_step();
    RunReport report(options_, is_first(), gemm_rate_, flops_per_token(), first);
    introduce(report);
    const LogOptions& log = options_.log;
    RunTrace trace(session_->runtime().trace(), world_.all(), log.trace_from,
                   std::min(log.trace_steps, options_.train.steps - log.trace_from + 1),
                   options_.run.dir + "/trace.json");
    Machine machine = session_->machine();
    std::optional<CommMeter> meter;
    if (options_.log.comm_bytes) meter.emplace(machine);
    TrainingResult result;
    if (first == 0) result.before = evaluate_at(0, report);
    int64_t measure_at = first + 1;
    for (int64_t step = first + 1; step <= options_.train.steps; ++step) {
      trace.before_step(step);
      StepReport done = trainer_->step();
      if (meter) done.bytes_sent = meter->take();
      report.step(done);
      trace.after_step(step, done.experts);
      if (step == measure_at) {
        measure_again(report);
        measure_at *= kPeakAgain;
      }
      for (const SaveReport& save : checkpoints_->after_step(*trainer_, step, run_json_)) report.checkpoint(save);
      const bool last = step == options_.train.steps;
      if (last || (options_.train.eval_every > 0 && step % options_.train.eval_every == 0))
        result.after = evaluate_at(step, report);
    }
    for (const SaveReport& save : checkpoints_->finish()) report.checkpoint(save);
    report.finish();
    const auto mine = static_cast<double>(session_->runtime().memory().stats().peak);
    const double peak = max_doubles(world_.all(), std::span(&mine, 1), "peak of memory").front();
    report.say(fmt::format("memory   at most {:.3f} GB of tensors a rank", peak * 1e-9));
    result.model_folder = save_model();
    if (is_first()) conclude(report, result);
    return result;
  }

 private:
  bool is_first() const { return world_.rank() == 0; }

  // Layers of the pipeline's chunks by what they cost on rank 0. They stand in the recipe that the run leaves, so that
  // it can be repeated as it was.
  void choose_layers() {
    ParallelOptions& p = options_.parallel;
    const std::vector<int> stages = chunk_stages(p);
    if (stages.size() == 1 || !p.layers.empty()) return;
    p.layers = layers_of_resumed_run(options_, world_.all());
    if (!p.layers.empty()) return;
    double costs[3] = {};
    const SessionOptions session = session_options(options_, world_.all());
    if (is_first()) {
      // As many rows as a rank has of a sequence: the whole one may not fit here.
      const LayerCosts c =
          measure_layer_costs(options_.model, session, std::max<int64_t>(options_.data.sequence / p.cp, 1));
      costs[0] = c.layer, costs[1] = c.embedding, costs[2] = c.head;
    }
    const std::vector<double> known = sum_doubles(world_.all(), costs, "costs of layers");
    const LayerCosts agreed{.layer = known[0], .embedding = known[1], .head = known[2]};
    const int64_t layers = options_.model.config().num_layers();
    for (const LayerRange& chunk : split_layers(layers, stages, {}, agreed))
      p.layers.push_back(chunk.end - chunk.begin);
  }

  void open_data() {
    const int64_t vocabulary = session_->model().shape().vocabulary;
    const int64_t positions = session_->model().shape().max_positions;
    if (options_.data.sequence > positions)
      throw ConfigError("data.sequence: {} tokens are longer than the {} positions of the model (model.max_positions)",
                        options_.data.sequence, positions);
    const std::string digest = tokenizer_ ? tokenizer_->digest() : "";
    samples_ = open_train_samples(options_.data, digest, vocabulary);
    heldout_ = open_heldout(options_.data, digest, vocabulary);
    LoaderOptions loader;
    loader.global_batch = options_.train.global_batch;
    loader.rank = mesh_.along(kDataAxes).rank();
    loader.size = mesh_.along(kDataAxes).size();
    loader.prefetch = options_.data.prefetch;
    loader_ = std::make_unique<Loader>(samples_, loader);
  }

  double flops_per_token() {
    return training_flops_per_token(session_->model().shape(), session_->registry(), options_.data.sequence);
  }

  std::optional<Evaluation> evaluate_at(int64_t step, RunReport& report) {
    if (!heldout_) return std::nullopt;
    Machine machine = session_->machine();
    const Evaluation e = evaluate(machine, *heldout_, options_.train.eval_windows, options_.train.seed);
    report.evaluation(step, e);
    return e;
  }

  void measure_again(RunReport& report) {
    const auto begin = std::chrono::steady_clock::now();
    const double rate = total_gemm_rate(*session_, session_->store().compute(), world_.all());
    report.gemm_rate(rate, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }

  // All ranks give their parts; the first one writes.
  std::string save_model() {
    std::string folder = options_.run.dir + "/model";
    Machine machine = session_->machine();
    machine.store.wait_for_masters(machine.stream);
    HfFolderOptions how;
    how.writes = is_first();
    if (tokenizer_ && tokenizer_->eos() != kNoToken) how.end_of_text = tokenizer_->eos();
    write_hf_folder(machine.runtime, folder, options_.model.config().to_hf(), machine.model.hugging_face_names(),
                    session_->registry(), WholeParameters(machine), how);
    if (is_first() && tokenizer_) save_tokenizer(*tokenizer_, folder);
    world_.all().barrier("model saved")->wait_host();
    return folder;
  }

  void introduce(RunReport& report) {
    Session& s = *session_;
    const Runtime& rt = s.runtime();
    int64_t head_only = s.registry().num_elements();
    for (const Parameter& p : s.registry().parameters())
      if (p.spec.role == Role::kEmbedding) head_only -= p.spec.shape.num_elements();
    report.say(fmt::format("DeepFlow {}  {} rank{}  {}  | cpu {}, {} thread{} a rank, {:.0f} GFLOP/s {} GEMM measured",
                           DEEPFLOW_VERSION, world_.size(), world_.size() > 1 ? "s" : "", mesh_.describe(),
                           name_of(rt.isa()), rt.pool().size(), rt.pool().size() > 1 ? "s" : "", gemm_rate_ * 1e-9,
                           name_of(s.store().compute())));
    report.say(fmt::format("model    {} {} parameters ({} without embeddings)   {:.2f} GB a rank so far",
                           options_.model.family, millions(s.registry().num_elements()), millions(head_only),
                           static_cast<double>(s.runtime().memory().stats().in_use) * 1e-9));
    report.say(fmt::format("data     {} tokens train{}{}", millions(samples_->num_tokens()),
                           heldout_ ? fmt::format(", {} held out", millions(heldout_->store().num_tokens())) : "",
                           tokenizer_ ? fmt::format(", tokenizer {} (digest {})", tokenizer_->vocabulary_size(),
                                                    tokenizer_->digest().substr(0, 8))
                                      : ""));
    const int64_t passes = options_.train.global_batch / mesh_.along(kDataAxes).size() / trainer_->micro_batch();
    report.say(fmt::format("batch    {} sequences x {} = {} tokens a step, {} micro-batch{} of {} a rank",
                           options_.train.global_batch, options_.data.sequence,
                           options_.train.global_batch * options_.data.sequence, passes, passes > 1 ? "es" : "",
                           trainer_->micro_batch()));
    const std::vector<ShardPiece> pieces = optimized_pieces(s.store().pieces());
    int64_t parameters = 0;
    for (const ShardPiece& piece : pieces) parameters += piece.end - piece.begin;
    report.say(fmt::format("update   {}, {:.2f} bytes of state a parameter{}", options_.optim.name,
                           static_cast<double>(optimizer_bytes(options_.optim, pieces)) /
                               static_cast<double>(std::max<int64_t>(1, parameters)),
                           options_.train.offload_optimizer.empty() ? "" : ", in a file"));
    if (s.memory_plan()) report.say(fmt::format("memory   plan: {}", s.memory_plan()->describe()));
    if (options_.parallel.pp > 1)
      report.say("pipeline " + describe_pipeline(options_.parallel, trainer_->schedule().num_micro_batches));
    for (const std::string& line : resume_lines_) report.say(line);
  }

  void conclude(RunReport& report, const TrainingResult& result) {
    if (result.before && result.after && result.after->bits_per_byte > 0)
      report.say(fmt::format("held-out bits per byte {:.4f} -> {:.4f}", result.before->bits_per_byte,
                             result.after->bits_per_byte));
    report.say(fmt::format("model in {}, metrics in {}/metrics.jsonl, curve in {}/loss.svg", result.model_folder,
                           options_.run.dir, options_.run.dir));
    if (tokenizer_) report.say(fmt::format("next: deepflow generate {} --prompt \"...\"", options_.run.dir));
  }

  RunOptions& options_;
  World& world_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Mesh mesh_;
  std::shared_ptr<const SampleSource> samples_;
  std::unique_ptr<HeldOut> heldout_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Trainer> trainer_;
  std::string run_json_;
  std::unique_ptr<RunCheckpoints> checkpoints_;  // reads from the trainer until it is gone
  std::vector<std::string> resume_lines_;
  double gemm_rate_ = 0;
};

}  // namespace

TrainingResult run_training(RunOptions& options, const OptionGroup& keys, World& world) {
  return Run(options, keys, world).train();
}

}  // namespace deepflow
