#include "checkpoint/blockstore/compare.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "core/error.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

constexpr int kDifferent = 1;  // exit code

struct DiffArguments {
  std::string a, b, only;
  int threads = available_cores();
  bool quiet = false, json = false;
};

double share(const TensorDifference& d) { return static_cast<double>(d.different) / static_cast<double>(d.elements); }

void print_text(const Comparison& c) {
  for (const std::string& name : c.only_in_a) fmt::print("only in the first: {}\n", name);
  for (const std::string& name : c.only_in_b) fmt::print("only in the second: {}\n", name);
  for (const std::string& text : c.misshapen) fmt::print("of another shape or dtype: {}\n", text);
  if (!c.different.empty())
    fmt::print("{:<52} {:>12} {:>9} {:>12} {:>12}\n", "different", "elements", "share %", "absolute", "relative");
  for (const TensorDifference& d : c.different)
    fmt::print("{:<52} {:>12} {:>9.4f} {:>12.4g} {:>12.4g}\n", d.name, d.different, 100 * share(d), d.absolute,
               d.relative);
  fmt::print("{}: {} tensors the same, {} different; {} elements compared, {} read\n",
             c.is_same() ? "the same, bit for bit" : "different", c.same,
             c.different.size() + c.misshapen.size() + c.only_in_a.size() + c.only_in_b.size(), c.elements,
             bytes_text(c.bytes_read));
}

nlohmann::json json_of(const Comparison& c) {
  nlohmann::json different = nlohmann::json::array();
  for (const TensorDifference& d : c.different) {
    nlohmann::json json = {{"name", d.name}, {"elements", d.elements}, {"different", d.different}, {"share", share(d)}};
    json["absolute"] = std::isfinite(d.absolute) ? nlohmann::json(d.absolute) : nlohmann::json("infinite");
    json["relative"] = std::isfinite(d.relative) ? nlohmann::json(d.relative) : nlohmann::json("infinite");
    different.push_back(std::move(json));
  }
  return {{"same", c.is_same()},      {"only_in_a", c.only_in_a},  {"only_in_b", c.only_in_b},
          {"misshapen", c.misshapen}, {"different", different},    {"same_tensors", c.same},
          {"elements", c.elements},   {"bytes_read", c.bytes_read}};
}

int diff(const DiffArguments& arguments) {
  const StoredCheckpoint a(find_checkpoint(arguments.a)), b(find_checkpoint(arguments.b));
  const Comparison c = compare_checkpoints(a, b, ThreadPool(arguments.threads), arguments.only);
  if (c.elements == 0 && c.is_same()) throw ConfigError("--only {}: neither has such state", arguments.only);
  if (arguments.json)
    print_json(json_of(c));
  else if (!arguments.quiet)
    print_text(c);
  return c.is_same() ? 0 : kDifferent;
}

}  // namespace

void add_ckpt_diff(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<DiffArguments>();
  CLI::App* command = cli.add_command(
      "diff", "compare the values of two checkpoints of any layouts; exit code 1: different",
      [arguments] { return diff(*arguments); }, ckpt);
  command->add_option("a", arguments->a, "a checkpoint")->required()->type_name("A");
  command->add_option("b", arguments->b, "another one")->required()->type_name("B");
  command->add_option("--threads", arguments->threads, "threads")->capture_default_str()->check(CLI::Range(1, 4096));
  command->add_option("--only", arguments->only, "this kind of state alone, such as parameters or adamw.m")
      ->type_name("KIND");
  command->add_flag("-q,--quiet", arguments->quiet, "the exit code alone");
  command->add_flag("--json", arguments->json, "for programs");
}

}  // namespace deepflow
