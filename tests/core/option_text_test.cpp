#include "core/option_text.h"

#include "core/option.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

struct Optim {
  double lr = 3e-4;
  std::optional<double> clip;
};
void declare(OptionGroup& group, Optim& o) {
  group.add("lr", o.lr).help("peak learning rate").range(0, 10);
  group.add("clip", o.clip)
      .help("largest global gradient norm")
      .unit("norm of the mean gradient")
      .above(0)
      .when_absent("no clipping")
      .source("Pascanu et al. 2013, section 3.2");
}

struct Source {
  std::string store;
};
void declare(OptionGroup& group, Source& o) { group.add("store", o.store).help("token store").required(); }

struct Model {
  std::string family = "llama";
  int64_t kv_heads = 4;
};
void declare(OptionGroup& group, Model& o) {
  group.add("family", o.family).help("architecture").one_of({"gpt2", "llama"});
  group.variant("family", "llama").add("kv_heads", o.kv_heads).help("key | value heads").at_least(1);
}

struct Whole {
  Model model;
  Optim optim;
  std::vector<Source> train;
};
struct OptionText : testing::Test {
  OptionText() {
    root.add("model", whole.model).help("what is trained");
    root.add("optim", whole.optim).help("how it is trained");
    root.add("train", whole.train).help("training data");
  }
  Whole whole;
  OptionGroup root;
};

TEST_F(OptionText, ExplainsOneKey) {
  EXPECT_EQ(explain_option(root, "optim.clip"),
            "optim.clip\n"
            "  largest global gradient norm\n"
            "  values   number, or none, above 0\n"
            "  unit     norm of the mean gradient\n"
            "  default  none: no clipping\n"
            "  source   Pascanu et al. 2013, section 3.2\n");
  EXPECT_EQ(explain_option(root, "model.kv_heads"),
            "model.kv_heads\n"
            "  key | value heads\n"
            "  only if  model.family is llama\n"
            "  values   whole number, at least 1\n"
            "  default  4\n");
  EXPECT_EQ(explain_option(root, "train.store"), "train.store\n  token store\n  values   text\n  default  required\n");
}

TEST_F(OptionText, ExplainsASection) {
  EXPECT_EQ(explain_option(root, "optim"),
            "optim\n"
            "  how it is trained\n"
            "  values   map\n"
            "keys\n"
            "  lr                      peak learning rate (default 0.0003)\n"
            "  clip                    largest global gradient norm (default none)\n");
  EXPECT_EQ(explain_option(root, ""),
            "  model                   what is trained\n"
            "  optim                   how it is trained\n"
            "  train                   training data (default [])\n");
}

TEST_F(OptionText, ExplainingNothingNamesTheNearestKey) {
  const auto message = [this](const std::string& key) {
    try {
      return explain_option(root, key);
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
  };
  EXPECT_EQ(message("optim.clipp"), "optim.clipp is not a key; did you mean optim.clip?");
  EXPECT_EQ(message("kv_heads"), "kv_heads is not a key; did you mean model.kv_heads?");
  EXPECT_EQ(message("qqqqqqqq"), "qqqqqqqq is not a key");
}

TEST_F(OptionText, ReferenceHoldsEveryKey) {
  EXPECT_EQ(reference_markdown(root, "Recipe", "All keys."),
            "# Recipe\n\nAll keys.\n\n"
            "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
            "| `train` | `[]` | list of {store} | training data |\n"
            "\n## model\n\nwhat is trained\n\n"
            "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
            "| `family` | `llama` | one of gpt2, llama | architecture |\n"
            "\n## model when family is llama\n\n"
            "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
            "| `kv_heads` | `4` | whole number, at least 1 | key \\| value heads |\n"
            "\n## optim\n\nhow it is trained\n\n"
            "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
            "| `lr` | `0.0003` | number, 0 to 10 | peak learning rate |\n"
            "| `clip` | `none` | number, or none, above 0 | largest global gradient norm [norm of the mean gradient]; "
            "none: no clipping (Pascanu et al. 2013, section 3.2) |\n"
            "\n## train, each item\n\ntraining data\n\n"
            "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
            "| `store` | required | text | token store |\n");
}

}  // namespace
}  // namespace deepflow
