// What a folder must have, what is said when it has not, and which dtype each tensor gets.

#include "checkpoint/hf_folder_writer.h"
#include "checkpoint/hf_values.h"
#include "checkpoint/safetensors_writer.h"
#include "core/error.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <map>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using testing::ScratchFolder;

ParameterSpec spec(const std::string& name, const Shape& shape, Role role = Role::kMatrix) {
  ParameterSpec s;
  s.name = name;
  s.shape = shape;
  s.role = role;
  if (role == Role::kBuffer) s.init = Initialiser::constant(0.5f);
  return s;
}

// A matrix, and a router's bias that files may lack.
struct Model {
  Runtime runtime{{.threads = 1}};
  ParameterRegistry registry;
  ForeignNames names{{{"w", {"w"}}, {"b", {"b"}, false, -1, true}}, {}, "", {}};
  std::map<std::string, std::vector<float>> values = {{"w", {1.0f / 3, 2, 3, 4}}, {"b", {1.0f / 3, 5}}};

  Model() {
    registry.add(spec("w", {2, 2}));
    registry.add(spec("b", {2}, Role::kBuffer));
    registry.freeze({});
  }
  Tensor value(const Parameter& p) { return Tensor::wrap(values.at(p.spec.name).data(), p.spec.shape, DType::kF32); }
  void save(const std::string& dir, const HfFolderOptions& options) {
    write_hf_folder(
        runtime, dir, {{"model_type", "tiny"}}, names, registry, [this](const Parameter& p) { return value(p); },
        options);
  }
};

std::string dtype_name(const std::string& dir, const std::string& tensor) {
  return SafetensorsFile(dir + "/model.safetensors").find(tensor)->dtype_name;
}

TEST(HfFolderStrict, CountsAThousandOfEachKindAndNamesADozen) {
  const ScratchFolder folder;
  Runtime runtime({.threads = 1});
  ParameterRegistry registry;
  ForeignNames names;
  std::vector<SafetensorsItem> items;
  for (int i = 0; i < 1000; ++i) {
    const std::string n = fmt::format("{:04}", i);
    registry.add(spec("missing" + n, {2}));
    registry.add(spec("misshapen" + n, {2}));
    names.map.push_back({"model.layers.0.self_attn.missing" + n, {"missing" + n}});
    names.map.push_back({"misshapen" + n, {"misshapen" + n}});
    items.push_back({"misshapen" + n, DType::kF32, {3}});
    items.push_back({"unexpected" + n, DType::kU8, {1}});
  }
  registry.freeze({});
  SafetensorsWriter writer(folder / "model.safetensors", items, {});
  writer.append(std::string(13000, 'x').data(), 13000);
  writer.commit();
  folder.write("config.json", "{}");
  try {
    HfFolder(folder.path()).load(runtime, names, registry, [](const Parameter&) { return Tensor(); });
    ADD_FAILURE();
  } catch (const DataError& e) {
    const std::string text = e.what();
    EXPECT_THAT(text, HasSubstr("1000 missing: model.layers.0.self_attn.missing0000, "));
    EXPECT_THAT(text, HasSubstr("missing0011 and 988 more; 1000 unexpected: unexpected0000, "));
    EXPECT_THAT(text, HasSubstr("unexpected0011 and 988 more; 1000 of another shape or dtype: misshapen0000 (the model "
                                "has [2], the folder F32 [3]), "));
    EXPECT_EQ(text.find("0012"), std::string::npos);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_LT(text.size(), 3000u);
  }
}

TEST(HfFolderStrict, TellsShapesBesideLongNames) {
  const ScratchFolder folder;
  Runtime runtime({.threads = 1});
  ParameterRegistry registry;
  registry.add(spec("p", {2048, 7168}));
  registry.freeze({});
  const std::string name = "model.layers.60.mlp.experts.255.gate_proj.weight";
  SafetensorsWriter writer(folder / "model.safetensors", {{name, DType::kBF16, {1, 7168}}}, {});
  writer.append(std::string(14336, 'x').data(), 14336);
  writer.commit();
  folder.write("config.json", "{}");
  try {
    HfFolder(folder.path()).load(runtime, {{{name, {"p"}}}, {}, "", {}}, registry, [](const Parameter&) {
      return Tensor();
    });
    ADD_FAILURE();
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr(name + " (the model has [2048, 7168], the folder BF16 [1, 7168])"));
  }
}

TEST(HfValues, GiveEachParameterAsItIsInTheFolder) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const ScratchFolder folder;
    Model model;
    model.save(folder.path(), {.dtype = dtype});
    EXPECT_EQ(dtype_name(folder.path(), "w"), dtype == DType::kF32 ? "F32" : dtype == DType::kBF16 ? "BF16" : "F16");
    EXPECT_EQ(dtype_name(folder.path(), "b"), "F32") << "transformers keeps it so in a model of any dtype";
    const HfFolder hf(folder.path());
    EXPECT_EQ(hf.dtype(), dtype);
    const HfValues values(model.runtime, hf, model.names, model.registry);
    const Parameter &w = *model.registry.find("w"), &b = *model.registry.find("b");
    EXPECT_EQ(values.dtype(w), dtype);
    EXPECT_EQ(values.dtype(b), DType::kF32);
    EXPECT_EQ(*values(b).data<float>(), 1.0f / 3);
    EXPECT_EQ(*values(w).data<float>() == 1.0f / 3, dtype == DType::kF32);
    const auto config = nlohmann::json::parse(folder.read("config.json"));
    EXPECT_EQ(config["dtype"], dtype == DType::kF32 ? "float32" : dtype == DType::kBF16 ? "bfloat16" : "float16");
  }
}

TEST(HfValues, WriteEachTensorInItsOwnDtype) {
  const ScratchFolder folder;
  Model model;
  HfFolderOptions options;
  options.dtype_of = [](const Parameter& p) { return p.spec.name == "b" ? DType::kBF16 : DType::kF16; };
  model.save(folder.path(), options);
  EXPECT_EQ(dtype_name(folder.path(), "w"), "F16");
  EXPECT_EQ(dtype_name(folder.path(), "b"), "BF16");
}

TEST(HfValues, BeginBuffersThatTheFolderLacksAndDemandTheRest) {
  const ScratchFolder folder;
  Model model;
  ForeignNames without = model.names;
  without.map.pop_back();
  write_hf_folder(model.runtime, folder.path(), {{"model_type", "tiny"}}, without, model.registry,
                  [&](const Parameter& p) { return model.value(p); }, {});
  const HfFolder hf(folder.path());
  EXPECT_TRUE(hf.holds(model.names, "w"));
  EXPECT_FALSE(hf.holds(model.names, "b"));
  const HfValues values(model.runtime, hf, model.names, model.registry);
  EXPECT_EQ(*values(*model.registry.find("b")).data<float>(), 0.5f);
  ForeignNames optional = model.names;
  optional.map.front() = {"other", {"w"}, false, -1, true};
  optional.ignored = {"w"};
  EXPECT_THROW(HfValues(model.runtime, hf, optional, model.registry), DataError) << "its weights are not known";
}

}  // namespace
}  // namespace deepflow
