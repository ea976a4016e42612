#include "core/option.h"

#include "core/option_yaml.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

enum class Precision { kF32, kBf16 };

struct Source {
  std::string store;
  double weight = 1;
};
void declare(OptionGroup& group, Source& o) {
  group.add("store", o.store).help("token store").required();
  group.add("weight", o.weight).help("share of the samples").above(0);
  group.short_form("store");
}

struct Optim {
  double lr = 3e-4;
  std::string schedule = "warmup_cosine";
  int64_t warmup = 0;
  std::optional<double> clip;
  std::vector<double> betas = {0.9, 0.95};
  bool fused = true;
  std::string note;
  std::string teacher = "t.h5";
};
void declare(OptionGroup& group, Optim& o) {
  group.add("lr", o.lr).help("peak learning rate").range(0, 10).source("Loshchilov and Hutter 2019");
  group.add("schedule", o.schedule).help("shape of the learning rate").one_of({"warmup_cosine", "linear", "constant"});
  group.add("warmup", o.warmup).help("warm-up").unit("steps").at_least(0);
  group.add("clip", o.clip).help("gradient norm").above(0).when_absent("no clipping");
  group.add("betas", o.betas).help("decay of the moments").length(2, 2).at_least(0).below(1);
  group.add("fused", o.fused).help("one pass over memory");
  group.add("note", o.note).help("any text");
  group.add("teacher", o.teacher).help("model to learn from").when_absent("no teacher");
}

struct Gpt2 {
  bool bias = true;
};
struct Llama {
  int kv_heads = 4;
};
struct Model {
  std::string family = "llama";
  int64_t layers = 2;
  Gpt2 gpt2;
  Llama llama;
};
void declare(OptionGroup& group, Model& o) {
  group.add("family", o.family).help("architecture").one_of({"gpt2", "llama"});
  group.add("layers", o.layers).help("blocks").range(1, 1000);
  group.variant("family", "gpt2").add("bias", o.gpt2.bias).help("biases in linear layers");
  group.variant("family", "llama").add("kv_heads", o.llama.kv_heads).help("key and value heads").at_least(1);
}

struct TestRecipe {
  Model model;
  Optim optim;
  std::vector<Source> train;
  Precision precision = Precision::kBf16;
  int steps = 10;
  uint64_t seed = 1;
};
void declare(OptionGroup& group, TestRecipe& o) {
  group.add("model", o.model).help("what is trained");
  group.add("optim", o.optim).help("how");
  group.add("train", o.train).help("training data");
  group.add("precision", o.precision).help("dtype").values({{"f32", Precision::kF32}, {"bf16", Precision::kBf16}});
  group.add("steps", o.steps).help("optimizer steps").at_least(1);
  group.add("seed", o.seed).help("random numbers");
  group.check([&o](const OptionGroup& root) {
    if (o.optim.warmup > o.steps) root.fail("optim.warmup", "{} is more than steps {}", o.optim.warmup, o.steps);
  });
}

TestRecipe read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  TestRecipe run;
  OptionGroup root;
  declare(root, run);
  OptionValue tree = parse_yaml(yaml, "r.yaml");
  for (const std::string& text : overrides) apply_override(tree, text);
  root.read(tree);
  return run;
}

std::string error(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    read(yaml, overrides);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Options, FillEveryKindOfMember) {
  const TestRecipe run = read(
      "model: {family: gpt2, layers: 1e2, bias: off}\n"
      "optim:\n"
      "  lr: +1e-3\n"
      "  clip: 1\n"
      "  betas: [0.8, .9]\n"
      "  note: \"true\"\n"
      "train: [{store: a.h5, weight: 0.7}, b.h5]\n"
      "precision: f32\n"
      "seed: 18446744073709551615\n");
  EXPECT_EQ(run.seed, 18446744073709551615u);
  EXPECT_EQ(run.model.family, "gpt2");
  EXPECT_EQ(run.model.layers, 100);
  EXPECT_FALSE(run.model.gpt2.bias);
  EXPECT_EQ(run.optim.lr, 1e-3);
  EXPECT_EQ(run.optim.clip, 1.0);
  EXPECT_EQ(run.optim.betas, (std::vector<double>{0.8, 0.9}));
  EXPECT_EQ(run.optim.note, "true");
  ASSERT_EQ(run.train.size(), 2u);
  EXPECT_EQ(run.train[0].weight, 0.7);
  EXPECT_EQ(run.train[1].store, "b.h5");
  EXPECT_EQ(run.train[1].weight, 1.0);
  EXPECT_EQ(run.precision, Precision::kF32);
  EXPECT_EQ(run.optim.schedule, "warmup_cosine");
}

TEST(Options, AnEmptyRecipeKeepsTheDefaults) {
  const TestRecipe run = read("optim:\nmodel: {}\n");
  EXPECT_EQ(run.optim.lr, 3e-4);
  EXPECT_EQ(run.model.llama.kv_heads, 4);
  EXPECT_EQ(read("").steps, 10);
}

TEST(Options, MisspeltKeyNamesTheNearestAndTheLine) {
  EXPECT_EQ(error("steps: 5\noptim:\n  lr: 1\n  warm_up: 3\n"),
            "r.yaml:4: optim.warm_up is not a key; did you mean optim.warmup?");
  EXPECT_EQ(error("lr: 1e-3\n"), "r.yaml:1: lr is not a key; did you mean optim.lr?");
  EXPECT_EQ(error("optim: {zebra: 1}\n"), "r.yaml:1: optim.zebra is not a key");
  EXPECT_EQ(error("\ntrain:\n  - {store: a}\n  - {store: b, wieght: 2}\n"),
            "r.yaml:4: train[1].wieght is not a key; did you mean train[1].weight?");
}

TEST(Options, WrongTypes) {
  EXPECT_EQ(error("optim: {lr: fast}\n"), "r.yaml:1: optim.lr needs a number, got fast");
  EXPECT_EQ(error("optim: {lr: \"1\"}\n"), "r.yaml:1: optim.lr needs a number, got \"1\"");
  EXPECT_EQ(error("optim: {lr: .inf}\n"), "r.yaml:1: optim.lr needs a number, got .inf");
  EXPECT_EQ(error("optim: {lr: nan}\n"), "r.yaml:1: optim.lr needs a number, got nan");
  EXPECT_EQ(error("optim: {lr: [1]}\n"), "r.yaml:1: optim.lr needs a number, got a list");
  EXPECT_EQ(error("optim:\n  lr:\n  note: x\n"), "r.yaml:2: optim.lr needs a number, got nothing");
  EXPECT_EQ(error("optim: {warmup: 1.5}\n"), "r.yaml:1: optim.warmup needs a whole number, got 1.5");
  EXPECT_EQ(error("seed: -1\n"), "r.yaml:1: seed needs a whole number from 0, got -1");
  EXPECT_EQ(error("optim: {fused: 1}\n"), "r.yaml:1: optim.fused needs true or false, got 1");
  EXPECT_EQ(error("optim: {note: {a: 1}}\n"), "r.yaml:1: optim.note needs text, got a map");
  EXPECT_EQ(error("optim: fast\n"), "r.yaml:1: optim needs a map of keys, got fast");
  EXPECT_EQ(error("- a\n"), "r.yaml:1: a recipe needs a map of keys, got a list");
}

TEST(Options, OutOfRange) {
  EXPECT_EQ(error("optim: {lr: 11}\n"), "r.yaml:1: optim.lr must be 0 to 10, got 11");
  EXPECT_EQ(error("optim: {clip: 0}\n"), "r.yaml:1: optim.clip must be above 0, got 0");
  EXPECT_EQ(error("optim: {betas: [0.9, 1]}\n"), "r.yaml:1: optim.betas[1] must be at least 0 and below 1, got 1");
  EXPECT_EQ(error("optim: {betas: 0.9}\n"), "r.yaml:1: optim.betas needs 2 items, got 1");
  EXPECT_EQ(error("steps: 99999999999\n"), "r.yaml:1: steps must be -2147483648 to 2147483647, got 99999999999");
  EXPECT_EQ(error("steps: 99999999999999999999\n"), "r.yaml:1: steps needs a whole number, got 99999999999999999999");
  EXPECT_EQ(error("optim: {schedule: warmup_cosin}\n"),
            "r.yaml:1: optim.schedule must be one of warmup_cosine, linear, constant, got warmup_cosin; did you mean "
            "warmup_cosine?");
  EXPECT_EQ(error("precision: f64\n"), "r.yaml:1: precision must be one of f32, bf16, got f64; did you mean f32?");
}

TEST(Options, RequiredKey) {
  EXPECT_EQ(error("steps: 3\ntrain: [{weight: 1}]\n"),
            "r.yaml:2: train[0].store is missing and has no default (token store)");
}

TEST(Options, KeysOfAVariantBelongToIt) {
  EXPECT_EQ(read("model: {kv_heads: 2}\n").model.llama.kv_heads, 2);
  EXPECT_EQ(error("model: {family: gpt2, kv_heads: 2}\n"),
            "r.yaml:1: model.kv_heads is a key of model.family llama, but model.family is gpt2");
  EXPECT_EQ(error("model: {kv_head: 2}\n"), "r.yaml:1: model.kv_head is not a key; did you mean model.kv_heads?");
}

TEST(Options, ChecksPointAtTheLineOfTheKey) {
  EXPECT_EQ(error("steps: 5\noptim:\n  warmup: 6\n"), "r.yaml:3: optim.warmup 6 is more than steps 5");
  EXPECT_EQ(error("optim:\n  warmup: 6\n", {"steps=5"}), "r.yaml:2: optim.warmup 6 is more than steps 5");
}

TEST(Options, NoneEmptiesATextThatMayBeAbsent) {
  EXPECT_EQ(read("").optim.teacher, "t.h5");
  EXPECT_EQ(read("optim: {teacher: none}\n").optim.teacher, "");
  EXPECT_EQ(read("optim:\n  teacher:\n").optim.teacher, "");
  EXPECT_EQ(read("optim: {note: none}\n").optim.note, "none");
}

TEST(Options, OverridesReplaceWhatTheRecipeSays) {
  const TestRecipe run = read("optim: {lr: 1}\ntrain: x.h5\n", {"optim.lr=1e-3", "optim.clip=2", "model.layers=7",
                                                                "train=[{store: a.h5, weight: 0.7}]"});
  EXPECT_EQ(run.optim.lr, 1e-3);
  EXPECT_EQ(run.optim.clip, 2.0);
  EXPECT_EQ(run.model.layers, 7);
  ASSERT_EQ(run.train.size(), 1u);
  EXPECT_EQ(run.train[0].store, "a.h5");
  EXPECT_EQ(read("optim: {clip: 2}\n", {"optim.clip=none"}).optim.clip, std::nullopt);
  EXPECT_EQ(read("optim: {clip: 2}\n", {"optim.clip="}).optim.clip, std::nullopt);
}

TEST(Options, BadOverrides) {
  EXPECT_EQ(error("", {"optim.warm_up=1"}), "command line: optim.warm_up is not a key; did you mean optim.warmup?");
  EXPECT_EQ(error("", {"optim.lr=fast"}), "command line: optim.lr needs a number, got fast");
  EXPECT_EQ(error("", {"optim.lr"}), "command line: an override is key=value, such as optim.lr=1e-3, got optim.lr");
  EXPECT_EQ(error("optim: {lr: 1}\n", {"optim.lr.x=1"}),
            "command line: optim.lr.x cannot be set because optim.lr is not a map; give all of optim.lr");
  EXPECT_EQ(error("", {"optim.betas=[1, 2"}),
            "command line: invalid YAML: a bracket is not closed or a key is not text");
}

TEST(Options, WrittenRecipeReadsBackTheSame) {
  TestRecipe run =
      read("model: {family: gpt2, bias: false}\noptim: {clip: 0.5, note: none}\ntrain: [a.h5, \"b #c.h5\"]\n");
  OptionGroup root;
  declare(root, run);
  for (const bool comments : {false, true}) {
    const std::string text = to_yaml(root.write(), comments);
    const TestRecipe again = read(text);
    EXPECT_EQ(again.optim.clip, 0.5);
    EXPECT_EQ(again.optim.note, "none");
    EXPECT_FALSE(again.model.gpt2.bias);
    ASSERT_EQ(again.train.size(), 2u);
    EXPECT_EQ(again.train[1].store, "b #c.h5");
    EXPECT_EQ(again.precision, Precision::kBf16);
    EXPECT_EQ(text.find("# peak learning rate") != std::string::npos, comments);
  }
}

}  // namespace
}  // namespace deepflow
