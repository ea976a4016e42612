#include "launch/command_eval.h"

#include "core/error.h"
#include "engine/evaluator.h"
#include "engine/prepare.h"
#include "launch/cli.h"
#include "parallel/bootstrap.h"
#include "parallel/mesh.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct EvalArguments {
  std::string model, store, precision = "bf16";
  int64_t sequence = 0, windows = 0;
  int threads = 0;
};

int evaluate_model(const EvalArguments& arguments, World& world) {
  RunOptions options;
  options.model.init_from = find_model_folder(arguments.model);
  options.data.heldout = arguments.store;
  options.train.precision = arguments.precision;
  options.train.threads = arguments.threads;
  const std::unique_ptr<Tokenizer> tokenizer = open_model_tokenizer(options.model.init_from);
  complete_model(options, tokenizer.get(), nullptr);

  Mesh mesh(world.all(), layout_of(options.parallel, world.size()));
  Session session(options.model, session_options(options, world.all()), mesh, options.parallel, options.data.sequence);
  set_initial_values(session, options);
  const ModelShape& shape = session.model().shape();
  options.data.sequence = arguments.sequence > 0 ? arguments.sequence : shape.max_positions;
  if (options.data.sequence > shape.max_positions)
    throw ConfigError("--sequence {}: the model has {} positions", options.data.sequence, shape.max_positions);
  const auto heldout = open_heldout(options.data, tokenizer ? tokenizer->digest() : "", shape.vocabulary);
  Machine machine = session.machine();
  const Evaluation e = evaluate(machine, *heldout, arguments.windows, 0);
  if (world.rank() == 0)
    fmt::print("{}\n", nlohmann::json{{"loss", e.loss},
                                      {"perplexity", e.perplexity},
                                      {"bits_per_byte", e.bits_per_byte},
                                      {"labels", e.num_labels}}
                           .dump());
  return 0;
}

}  // namespace

void add_eval_command(Cli& cli) {
  const auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = cli.add_command(
      "eval", "loss, perplexity and bits per byte of a model on a token store",
      [arguments] { return run_world({}, [&](World& world) { return evaluate_model(*arguments, world); }); });
  command->add_option("model", arguments->model, "run folder or Hugging Face folder")->required()->type_name("DIR");
  command->add_option("store", arguments->store, "token store")->required()->type_name("FILE");
  command->add_option("--sequence", arguments->sequence, "tokens of a window; default: the model's positions");
  command->add_option("--windows", arguments->windows, "windows to read; 0: all")->capture_default_str();
  command->add_option("--precision", arguments->precision, "f32, bf16, f16 or int8 (bf16 with int8 products)")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "int8"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "compute threads of a rank; 0: the cores it may use");
}

}  // namespace deepflow
