#include "checkpoint/hdf5_model.h"

#include "checkpoint/hdf5_model_writer.h"
#include "core/error.h"
#include "core/hdf5_handle.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <numeric>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using testing::ScratchFolder;

ParameterSpec spec(const std::string& name, const Shape& shape, std::vector<Split> split = {}) {
  ParameterSpec s;
  s.name = name;
  s.shape = shape;
  s.placement = std::move(split);
  return s;
}

// One parameter of each number of dims; element i of number j is 1000 j + i + 1/3.
struct Model {
  Runtime runtime{{.threads = 2}};
  ParameterRegistry registry;
  std::map<std::string, std::vector<float>> values;

  explicit Model(int64_t rows = 7, const MeshCoord& coord = {}, const std::vector<std::vector<Split>>& splits = {}) {
    const auto split = [&](size_t i) { return splits.empty() ? std::vector<Split>() : splits[i]; };
    registry.add(spec("embedding.weight", {rows, 4}, split(0)));
    registry.add(spec("layers.0.moe.gate.weight", {2, 3, 4}, split(1)));
    ParameterSpec bias = spec("layers.0.moe.router.bias", {2});
    bias.role = Role::kBuffer;
    registry.add(bias);
    registry.freeze(coord);
    float start = 1.0f / 3;
    for (const Parameter& p : registry.parameters()) {
      std::vector<float>& v = values[p.spec.name];
      v.resize(static_cast<size_t>(p.local_shape.num_elements()));
      std::iota(v.begin(), v.end(), start);
      start += 1000;
    }
  }
  ForeignTensor::LocalValue value() {
    return
        [this](const Parameter& p) { return Tensor::wrap(values.at(p.spec.name).data(), p.local_shape, DType::kF32); };
  }
  void save(const std::string& path, const Hdf5ModelOptions& options = {}) {
    write_hdf5_model(runtime, path, {{"model_type", "tiny"}, {"layers", 1}}, registry, value(), options);
  }
  void load(const std::string& path) {
    for (auto& [name, v] : values) std::fill(v.begin(), v.end(), -1.0f);
    Hdf5Model(path).load(runtime, registry, value());
  }
};

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "";
}

TEST(Hdf5Model, GivesBackWhatWasWritten) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const ScratchFolder folder;
    Model model, other;
    model.save(folder / "m.h5", {.dtype = dtype});
    const Hdf5Model file(folder / "m.h5");
    EXPECT_EQ(file.config(), (nlohmann::json{{"model_type", "tiny"}, {"layers", 1}}));
    other.load(folder / "m.h5");
    for (const Parameter& p : model.registry.parameters()) {
      const DType stored = p.spec.role == Role::kBuffer ? DType::kF32 : dtype;
      EXPECT_EQ(file.dtype(p), stored);
      std::vector<float> expected = model.values.at(p.spec.name);
      for (float& x : expected)
        x = stored == DType::kBF16 ? to_float(to_bf16(x)) : stored == DType::kF16 ? to_float(to_f16(x)) : x;
      EXPECT_EQ(other.values.at(p.spec.name), expected) << p.spec.name;
      const Tensor whole = file.whole(other.runtime, p);
      EXPECT_EQ(whole.shape(), p.spec.shape);
      EXPECT_EQ(std::vector<float>(whole.data<float>(), whole.data<float>() + whole.num_elements()), expected);
    }
  }
}

TEST(Hdf5Model, ReadsInPiecesAcrossChunks) {
  const ScratchFolder folder;
  Model model(1'300'001), other(1'300'001);  // some chunks, the last one not whole
  model.save(folder / "m.h5", {.dtype = DType::kBF16, .dtype_of = [](const Parameter&) { return DType::kF32; }});
  other.load(folder / "m.h5");
  EXPECT_EQ(other.values, model.values);
}

TEST(Hdf5Model, LoadsTheLocalPartOfSplitParameters) {
  const ScratchFolder folder;
  Model whole(8);
  whole.save(folder / "m.h5");
  Model columns(8, {{"tp", 1, 2}}, {{{1, {"tp"}, 2}}, {{2, {"tp"}, 2}}});
  columns.load(folder / "m.h5");
  const auto& all = whole.values.at("embedding.weight");
  const auto& part = columns.values.at("embedding.weight");
  ASSERT_EQ(part.size(), 16u);
  for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], all[i / 2 * 4 + 2 + i % 2]);
  Model experts(8, {{"ep", 1, 2}}, {{}, {{0, {"ep"}, 2}}});
  experts.load(folder / "m.h5");
  const auto& gate = whole.values.at("layers.0.moe.gate.weight");
  EXPECT_EQ(experts.values.at("layers.0.moe.gate.weight"), std::vector<float>(gate.begin() + 12, gate.end()));
}

TEST(Hdf5Model, HasADataSetForEachParameterBelowGroups) {
  const ScratchFolder folder;
  Model().save(folder / "m.h5", {.dtype = DType::kBF16});
  Hdf5Lock lock;
  const Hdf5Handle file(H5Fopen((folder / "m.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  const Hdf5Handle data(H5Dopen2(file.get(), "/parameters/layers/0/moe/gate/weight", H5P_DEFAULT), H5Dclose);
  ASSERT_TRUE(data);
  uint16_t bits[24];
  ASSERT_GE(H5Dread(data.get(), H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, bits), 0);
  EXPECT_EQ(bits[5], to_bf16(1000 + 1.0f / 3 + 5).bits);
}

TEST(Hdf5Model, ListsMissingUnexpectedAndMisshapenParametersAtOnce) {
  const ScratchFolder folder;
  Model model;
  model.save(folder / "m.h5");
  ParameterRegistry registry;
  registry.add(spec("embedding.weight", {4, 7}));
  registry.add(spec("norm.weight", {4}));
  registry.add(spec("layers.0.moe.router.bias", {2}));
  registry.freeze({});
  const std::string message =
      error_of([&] { Hdf5Model(folder / "m.h5").load(model.runtime, registry, model.value()); });
  EXPECT_THAT(message, HasSubstr(folder / "m.h5: its tensors are not those of the model"));
  EXPECT_THAT(message, HasSubstr("1 missing: norm.weight"));
  EXPECT_THAT(message, HasSubstr("1 unexpected: layers.0.moe.gate.weight"));
  EXPECT_THAT(message, HasSubstr("embedding.weight (the model has [4, 7], the file f32 [7, 4])"));
}

TEST(Hdf5Model, RefusesTruncatedAndForeignFilesWithOneLine) {
  const ScratchFolder folder;
  Model model;
  model.save(folder / "m.h5");
  EXPECT_THAT(error_of([&] { Hdf5Model(folder / "absent.h5"); }), HasSubstr("there is no such file"));
  const std::string whole = folder.read("m.h5");
  for (size_t size = 0; size < whole.size(); size += 97) {
    const std::string path = folder.write("cut.h5", whole.substr(0, size));
    EXPECT_THAT(error_of([&] { Hdf5Model cut(path); }), HasSubstr(path + ": HDF5 cannot open it")) << size;
  }
  {
    Hdf5Lock lock;
    Hdf5Handle other(H5Fcreate((folder / "other.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  }
  EXPECT_THAT(error_of([&] { Hdf5Model(folder / "other.h5"); }), HasSubstr("attribute magic is missing"));
}

// Every byte of a value is under a checksum, and so are the library's own structures.
TEST(Hdf5Model, NeverGivesAnotherValueForAFlippedBit) {
  const ScratchFolder folder;
  Model model, other;
  model.save(folder / "m.h5");
  const std::string whole = folder.read("m.h5");
  int refused = 0;
  for (size_t byte = 0; byte < whole.size(); byte += 3) {
    std::string flipped = whole;
    flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << (byte % 8)));
    const std::string path = folder.write("flipped.h5", flipped);
    if (error_of([&] { other.load(path); }).empty())
      EXPECT_EQ(other.values, model.values) << byte;
    else
      ++refused;
  }
  EXPECT_GT(refused, 100);
}

TEST(Hdf5Model, OnlyTheWritingRankTouchesTheDisk) {
  const ScratchFolder folder;
  Model model;
  int asked = 0;
  write_hdf5_model(model.runtime, folder / "m.h5", nlohmann::json::object(), model.registry,
                   [&](const Parameter&) {
                     ++asked;
                     return Tensor();
                   },
                   {.writes = false});
  EXPECT_EQ(asked, 3);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Hdf5Model, LeavesTheOlderFileWhenWritingFails) {
  const ScratchFolder folder;
  Model model;
  folder.write("m.h5", "older");
  EXPECT_THROW(write_hdf5_model(model.runtime, folder / "m.h5", nlohmann::json::object(), model.registry,
                                [&](const Parameter& p) -> Tensor {
                                  if (p.spec.name == "embedding.weight") return model.value()(p);
                                  throw StorageError("the source ends here");
                                },
                                {}),
               StorageError);
  EXPECT_EQ(folder.read("m.h5"), "older");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace deepflow
