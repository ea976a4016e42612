#include "checkpoint/hf_folder.h"

#include "checkpoint/hf_folder_writer.h"
#include "checkpoint/safetensors_writer.h"
#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using testing::ScratchFolder;

ParameterSpec spec(const std::string& name, const Shape& shape) {
  ParameterSpec s;
  s.name = name;
  s.shape = shape;
  return s;
}

// Two matrices fused and transposed in the foreign format, their biases fused, and a norm as it is.
struct TinyModel {
  Runtime runtime{{.threads = 2}};
  ParameterRegistry registry;
  ForeignNames names{{{"body.fused.weight", {"q", "k"}, true},
                      {"body.fused.bias", {"q.bias", "k.bias"}},
                      {"body.plain.weight", {"p"}},
                      {"body.norm", {"n"}}},
                     {},
                     "body.",
                     {".mask"}};
  std::map<std::string, Tensor> values;

  explicit TinyModel(const MeshCoord& coord = {}, std::vector<Split> split_q = {}) {
    ParameterSpec q = spec("q", {4, 3});
    q.placement = std::move(split_q);
    registry.add("qk", {q, spec("k", {2, 3})});
    registry.add("qk.bias", {spec("q.bias", {4}), spec("k.bias", {2})});
    registry.add(spec("p", {2, 3}));
    registry.add(spec("n", {3}));
    registry.freeze(coord);
    for (const Parameter& p : registry.parameters())
      values[p.spec.name] = Tensor::empty(runtime.memory(), p.local_shape, DType::kF32);
  }

  // Element i of parameter number j is 100 j + i.
  void count_up() {
    float start = 0;
    for (const Parameter& p : registry.parameters()) {
      Tensor& t = values[p.spec.name];
      for (int64_t i = 0; i < t.num_elements(); ++i) t.data<float>()[i] = start + static_cast<float>(i);
      start += 100;
    }
  }
  ForeignTensor::LocalValue value() {
    return [this](const Parameter& p) { return values.at(p.spec.name); };
  }
  void save(const std::string& dir, const HfFolderOptions& options = {}) {
    write_hf_folder(runtime, dir, {{"model_type", "tiny"}}, names, registry, value(), options);
  }
  void load(const std::string& dir) { HfFolder(dir).load(runtime, names, registry, value()); }
  std::vector<float> content(const std::string& name) {
    const Tensor& t = values.at(name);
    return {t.data<float>(), t.data<float>() + t.num_elements()};
  }
};

std::string error_of(TinyModel& model, const std::string& dir) {
  try {
    model.load(dir);
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "";
}

TEST(HfFolder, GivesBackWhatWasWritten) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const ScratchFolder folder;
    TinyModel model, other;
    model.count_up();
    model.save(folder / "out", {.dtype = dtype});
    other.load(folder / "out");
    for (const auto& [name, value] : model.values) {
      std::vector<float> expected = model.content(name);
      if (dtype == DType::kBF16)
        for (float& x : expected) x = to_float(to_bf16(x));
      EXPECT_EQ(other.content(name), expected) << name;
    }
  }
}

TEST(HfFolder, FusesAndTransposesAsTheNameMapSays) {
  const ScratchFolder folder;
  TinyModel model;
  model.count_up();
  model.save(folder.path());
  const SafetensorsFile file(folder / "model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const SafetensorsEntry* fused = file.find("body.fused.weight");
  ASSERT_NE(fused, nullptr);
  ASSERT_EQ(fused->shape, (std::vector<int64_t>{3, 6}));
  float first_row[6];  // the first column of q, then of k
  file.read(*fused, 0, first_row, sizeof(first_row));
  EXPECT_THAT(first_row, ::testing::ElementsAre(0, 3, 6, 9, 100, 103));
  float bias[6];
  file.read(*file.find("body.fused.bias"), 0, bias, sizeof(bias));
  EXPECT_THAT(bias, ::testing::ElementsAre(200, 201, 202, 203, 300, 301));
}

// Two experts of two matrices each, in files one tensor a matrix or all of a layer fused.
struct TinyExperts {
  Runtime runtime{{.threads = 2}};
  ParameterRegistry registry;
  ForeignNames apart{{{"e.0.gate", {"gate"}, false, 0},
                      {"e.1.gate", {"gate"}, false, 1},
                      {"e.0.up", {"up"}, false, 0},
                      {"e.1.up", {"up"}, false, 1}},
                     {{{"e.gate_up", {"gate", "up"}}}},
                     "",
                     {}};
  ForeignNames fused{apart.also_read[0], {}, "", {}};
  std::map<std::string, std::vector<float>> values;
  int calls = 0;

  explicit TinyExperts(const MeshCoord& coord = {}, const std::vector<Split>& split = {}) {
    ParameterSpec gate = spec("gate", {2, 2, 3}), up = spec("up", {2, 2, 3});
    gate.placement = up.placement = split;
    registry.add("gate_up", {gate, up});
    registry.freeze(coord);
    for (const Parameter& p : registry.parameters())
      values[p.spec.name].resize(static_cast<size_t>(p.local_shape.num_elements()));
  }
  ForeignTensor::LocalValue value() {
    return [this](const Parameter& p) {
      ++calls;
      return Tensor::wrap(values.at(p.spec.name).data(), p.local_shape, DType::kF32);
    };
  }
  void count_up() {
    for (size_t i = 0; i < 12; ++i) {
      values["gate"][i] = static_cast<float>(i);
      values["up"][i] = static_cast<float>(100 + i);
    }
  }
};

TEST(HfFolder, ReadsAndWritesExpertsApartOrFused) {
  for (const bool fused : {false, true}) {
    const ScratchFolder folder;
    TinyExperts model, other;
    model.count_up();
    write_hf_folder(model.runtime, folder.path(), {{"model_type", "tiny"}}, fused ? model.fused : model.apart,
                    model.registry, model.value(), {});
    EXPECT_EQ(model.calls, 2) << "every parameter is gathered once";
    const SafetensorsFile file(folder / "model.safetensors");
    const SafetensorsEntry* entry = file.find(fused ? "e.gate_up" : "e.1.up");
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->shape, fused ? (std::vector<int64_t>{2, 4, 3}) : (std::vector<int64_t>{2, 3}));
    float content[12];
    file.read(*entry, fused ? 48 : 0, content, fused ? 48 : 24);
    if (fused)
      EXPECT_THAT(content, ::testing::ElementsAre(6, 7, 8, 9, 10, 11, 106, 107, 108, 109, 110, 111));
    else
      EXPECT_THAT(std::vector<float>(content, content + 6), ::testing::ElementsAre(106, 107, 108, 109, 110, 111));
    HfFolder(folder.path()).load(other.runtime, other.apart, other.registry, other.value());
    EXPECT_EQ(other.values, model.values);
  }
}

TEST(HfFolder, LoadsTheLocalPartOfSplitExperts) {
  const struct {
    Split split;
    std::vector<float> gate;
  } cases[] = {
      {{0, {"ep"}, 2}, {6, 7, 8, 9, 10, 11}}, {{1, {"ep"}, 2}, {3, 4, 5, 9, 10, 11}}, {{2, {"ep"}, 3}, {1, 4, 7, 10}}};
  for (const bool fused : {false, true})
    for (const auto& c : cases) {
      const ScratchFolder folder;
      TinyExperts whole;
      whole.count_up();
      write_hf_folder(whole.runtime, folder.path(), {{"model_type", "tiny"}}, fused ? whole.fused : whole.apart,
                      whole.registry, whole.value(), {});
      const int ranks = static_cast<int>(c.split.units);
      TinyExperts part({{"ep", 1, ranks}}, {c.split});
      HfFolder(folder.path()).load(part.runtime, part.apart, part.registry, part.value());
      EXPECT_EQ(part.values["gate"], c.gate);
      std::vector<float> up;
      for (const float g : c.gate) up.push_back(g + 100);
      EXPECT_EQ(part.values["up"], up);
    }
}

TEST(HfFolder, CutsLargeModelsIntoShardsWithAnIndex) {
  const ScratchFolder folder;
  TinyModel model, other;
  model.count_up();
  model.save(folder.path(), {.shard_bytes = 80});
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder / "model-00002-of-00002.safetensors"));
  const auto index = nlohmann::json::parse(folder.read("model.safetensors.index.json"));
  EXPECT_EQ(index["weight_map"]["body.norm"], "model-00002-of-00002.safetensors");
  EXPECT_EQ(index["metadata"]["total_size"], 4 * (18 + 6 + 6 + 3));
  other.load(folder.path());
  EXPECT_EQ(other.content("q"), model.content("q"));
  model.save(folder.path());  // one file now: the shards are gone
  EXPECT_FALSE(std::filesystem::exists(folder / "model-00002-of-00002.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors.index.json"));
}

TEST(HfFolder, LoadsOnlyTheLocalPartOfASplitParameter) {
  const ScratchFolder folder;
  TinyModel whole;
  whole.count_up();
  whole.save(folder.path());
  TinyModel half({{"tp", 1, 2}}, {{0, {"tp"}, 2}});
  half.load(folder.path());
  EXPECT_THAT(half.content("q"), ::testing::ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_EQ(half.content("k"), whole.content("k"));
}

TEST(HfFolder, ReadsF16AndNamesWithoutThePrefixAndSkipsIgnoredTensors) {
  const ScratchFolder folder;
  TinyModel model;
  SafetensorsWriter writer(folder / "model.safetensors",
                           {{"fused.weight", DType::kF16, {3, 6}},
                            {"fused.bias", DType::kF16, {6}},
                            {"plain.weight", DType::kF16, {2, 3}},
                            {"norm", DType::kF16, {3}},
                            {"h.0.mask", DType::kU8, {2}}},
                           {});
  std::vector<F16> half(33);
  for (size_t i = 0; i < half.size(); ++i) half[i] = to_f16(0.5f * static_cast<float>(i));
  writer.append(half.data(), 66);
  writer.append("xx", 2);
  writer.commit();
  folder.write("config.json", "{}");
  model.load(folder.path());
  EXPECT_THAT(model.content("k"), ::testing::ElementsAre(2, 5, 8, 2.5, 5.5, 8.5));
  EXPECT_THAT(model.content("n"), ::testing::ElementsAre(15, 15.5, 16));
}

TEST(HfFolder, ListsMissingUnexpectedAndMisshapenTensorsAtOnce) {
  const ScratchFolder folder;
  TinyModel model;
  SafetensorsWriter writer(
      folder / "model.safetensors",
      {{"body.fused.weight", DType::kU8, {6, 3}}, {"body.fused.bias", DType::kI64, {6}}, {"stranger", DType::kU8, {1}}},
      {});
  writer.append(std::string(18 + 48 + 1, 'x').data(), 18 + 48 + 1);
  writer.commit();
  folder.write("config.json", "{}");
  const std::string message = error_of(model, folder.path());
  EXPECT_THAT(message, HasSubstr("2 missing: body.plain.weight, body.norm"));
  EXPECT_THAT(message, HasSubstr("1 unexpected: stranger"));
  EXPECT_THAT(message, HasSubstr("body.fused.weight (the model has [3, 6], the folder U8 [6, 3])"));
  EXPECT_THAT(message, HasSubstr("body.fused.bias (the model has [6], the folder I64 [6])"));
}

TEST(HfFolder, RefusesBrokenFoldersWithOneLine) {
  const ScratchFolder folder;
  TinyModel model;
  EXPECT_THAT(error_of(model, folder / "absent"), HasSubstr("there is no such folder"));
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("config.json: cannot open it"));
  folder.write("config.json", "{\"a\": ");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("config.json: it is not valid JSON"));
  folder.write("config.json", "{\"a\": 1e999}");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("config.json: a number in it is larger than any"));
  folder.write("config.json", "[]");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("needs a JSON object, got array"));
  folder.write("config.json", "{\"a\":" + std::string(100000, '['));
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("levels deep"));
  folder.write("config.json", "{}");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("there is no model.safetensors"));
  folder.write("model.safetensors.index.json", "{}");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("weight_map is missing"));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "../secret.safetensors"}})");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("a is not in a file of the folder"));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": 5}})");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("a is not in a file of the folder"));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "m.safetensors"}})");
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("m.safetensors: cannot open it"));
  SafetensorsWriter(folder / "m.safetensors", {}, {}).commit();
  EXPECT_THAT(error_of(model, folder.path()), HasSubstr("a should be in m.safetensors, which does not hold it"));
}

TEST(HfFolder, OnlyTheWritingRankTouchesTheFolder) {
  const ScratchFolder folder;
  TinyModel model;
  model.count_up();
  int asked = 0;
  const auto value = [&](const Parameter& p) {
    ++asked;
    return model.values.at(p.spec.name);
  };
  write_hf_folder(model.runtime, folder / "out", nlohmann::json::object(), model.names, model.registry, value,
                  {.writes = false});
  EXPECT_EQ(asked, 6);
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(HfFolder, CompletesTheConfiguration) {
  const ScratchFolder folder;
  TinyModel model;
  model.count_up();
  model.save(folder / "out", {.dtype = DType::kBF16, .end_of_text = 7});
  const auto config = nlohmann::json::parse(folder.read("out/config.json"));
  EXPECT_EQ(config["model_type"], "tiny");
  EXPECT_EQ(config["dtype"], "bfloat16");
  EXPECT_EQ(config["eos_token_id"], 7);
  EXPECT_EQ(nlohmann::json::parse(folder.read("out/generation_config.json"))["eos_token_id"], 7);
}

}  // namespace
}  // namespace deepflow
