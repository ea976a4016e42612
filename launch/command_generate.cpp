#include "launch/command_generate.h"

#include "core/error.h"
#include "engine/generator.h"
#include "engine/prepare.h"
#include "launch/cli.h"
#include "parallel/self_communicator.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

struct GenerateArguments {
  std::string model, prompt, precision = "bf16";
  SamplingOptions sampling;
  int64_t samples = 1;
  int threads = 0;
  bool figures = false;
};

// Where a text ends: the model's own end token, or an id that never comes.
int32_t stop_token(const Tokenizer& tokenizer) { return tokenizer.eos() == kNoToken ? -1 : tokenizer.eos(); }

int generate_text(const GenerateArguments& arguments) {
  RunOptions options;
  options.model.init_from = find_model_folder(arguments.model);
  options.train.precision = arguments.precision;
  options.train.threads = arguments.threads;
  const std::unique_ptr<Tokenizer> tokenizer = open_model_tokenizer(options.model.init_from);
  if (!tokenizer)
    throw ConfigError("{}: no tokenizer.json beside the model; generate needs one", options.model.init_from);
  complete_model(options, tokenizer.get(), nullptr);
  const std::unique_ptr<Communicator> comm = make_self_communicator("generate");
  Session session(options.model, session_options(options, *comm));
  set_initial_values(session, options);
  Machine machine = session.machine();

  EncodeOptions encode;
  encode.add_special = true;
  std::vector<TokenId> prompt;
  tokenizer->encode(arguments.prompt, prompt, encode);
  if (prompt.empty() && tokenizer->bos() != kNoToken) prompt.push_back(tokenizer->bos());
  if (prompt.empty() && tokenizer->eos() != kNoToken) prompt.push_back(tokenizer->eos());

  // One text is shown as it grows; several are shown one after the other.
  const bool live = arguments.samples == 1;
  std::vector<std::vector<TokenId>> texts(static_cast<size_t>(arguments.samples));
  if (live) fmt::print("{}", arguments.prompt);
  const GenerationFigures figures = generate(machine, prompt, arguments.samples, stop_token(*tokenizer),
                                             arguments.sampling, [&](int64_t sample, TokenId token) {
                                               texts[static_cast<size_t>(sample)].push_back(token);
                                               if (!live) return;
                                               const std::string bytes = tokenizer->token_bytes(token);
                                               std::fwrite(bytes.data(), 1, bytes.size(), stdout);
                                               std::fflush(stdout);
                                             });
  if (live) fmt::print("\n");
  for (size_t i = 0; !live && i < texts.size(); ++i)
    fmt::print("--- {}\n{}{}\n", i + 1, arguments.prompt, tokenizer->decode(texts[i], true));
  if (arguments.figures)
    fmt::print(stderr, "{} prompt tokens in {:.3f} s, {} new tokens in {:.3f} s ({:.1f} tokens/s)\n",
               figures.prompt_tokens, figures.prefill_seconds, figures.new_tokens, figures.decode_seconds,
               static_cast<double>(figures.new_tokens) / figures.decode_seconds);
  if (arguments.figures && figures.drafts > 0)
    fmt::print(stderr, "{} of {} drafts accepted ({:.0f} %)\n", figures.accepted_drafts, figures.drafts,
               100 * static_cast<double>(figures.accepted_drafts) / static_cast<double>(figures.drafts));
  return 0;
}

}  // namespace

void add_generate_command(Cli& cli) {
  const auto arguments = std::make_shared<GenerateArguments>();
  SamplingOptions& sampling = arguments->sampling;
  CLI::App* command = cli.add_command("generate", "continue a text with a trained model",
                                      [arguments] { return generate_text(*arguments); });
  command->add_option("model", arguments->model, "run folder or Hugging Face folder")->required()->type_name("DIR");
  command->add_option("--prompt", arguments->prompt, "text to continue")->type_name("TEXT");
  command->add_option("--max-tokens", sampling.max_tokens, "longest continuation")->capture_default_str();
  command->add_option("--temperature", sampling.temperature, "divides the logits; 0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "sample among the k likeliest; 0: all")->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "sample among the likeliest whose probabilities reach p")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", sampling.seed, "of the sampling")->capture_default_str();
  command
      ->add_option("--latent-cache", sampling.latent_cache,
                   "latent attention: store its short rows, not the keys and values of all heads")
      ->capture_default_str();
  command->add_flag("--speculate", sampling.speculate,
                    "draft tokens ahead by the model's multi-token prediction; the same texts in fewer passes");
  command->add_option("--samples", arguments->samples, "continuations at once")->check(CLI::Range(1, 1024));
  command->add_option("--precision", arguments->precision, "f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "compute threads; 0: the cores it may use");
  command->add_flag("--figures", arguments->figures, "print tokens per second to stderr");
}

}  // namespace deepflow
