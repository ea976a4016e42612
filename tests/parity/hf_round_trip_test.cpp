// Folders that transformers wrote go through DeepFlow and come out with every tensor bit-identical in its dtype,
// without a session: read, kept as HDF5, written.

#include "checkpoint/hdf5_model.h"
#include "checkpoint/hdf5_model_writer.h"
#include "checkpoint/hf_folder_writer.h"
#include "checkpoint/hf_values.h"
#include "core/error.h"
#include "engine/model_shell.h"
#include "kernels/ops/elementwise.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <functional>
#include <set>

namespace deepflow {
namespace {

using nlohmann::json;
using testing::ScratchFolder;

std::string golden(const std::string& name) { return std::string(DEEPFLOW_PARITY_GOLDENS) + "/" + name; }

std::string bytes_of(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  std::string bytes(static_cast<size_t>(entry.end - entry.begin), '\0');
  file.read(entry, 0, bytes.data(), bytes.size());
  return bytes;
}

// Names, dtypes, shapes and bits; `but_for`: beginnings of names that only the first may have.
void expect_same_tensors(const std::string& before_dir, const std::string& after_dir,
                         const std::string& but_for = "-") {
  const SafetensorsFile before(before_dir + "/model.safetensors"), after(after_dir + "/model.safetensors");
  size_t compared = 0;
  for (const SafetensorsEntry& entry : before.entries()) {
    if (entry.name.starts_with(but_for)) continue;
    ++compared;
    const SafetensorsEntry* ours = after.find(entry.name);
    ASSERT_NE(ours, nullptr) << entry.name;
    EXPECT_EQ(ours->dtype_name, entry.dtype_name) << entry.name;
    EXPECT_EQ(ours->shape, entry.shape) << entry.name;
    EXPECT_EQ(bytes_of(before, entry), bytes_of(after, *ours)) << entry.name;
  }
  EXPECT_EQ(compared, after.entries().size());
}

// A folder and its shell: a source of whole values.
struct Source {
  HfFolder folder;
  ModelShell shell;
  HfValues values;

  Source(Runtime& runtime, const std::string& dir)
      : folder(dir), shell(folder), values(runtime, folder, shell.names(), shell.registry()) {}
  std::function<DType(const Parameter&)> dtypes() {
    return [this](const Parameter& p) { return values.dtype(p); };
  }
};

class HfRoundTrip : public ::testing::TestWithParam<std::string> {
 protected:
  void write(const std::string& dir, Source& source, const ForeignTensor::WholeValue& value) {
    HfFolderOptions how;
    how.dtype = source.folder.dtype();
    how.dtype_of = source.dtypes();
    write_hf_folder(runtime_, dir, source.shell.config().to_hf(), source.shell.names(), source.shell.registry(), value,
                    how);
  }

  // The same model in f32, with values that use every bit of it.
  std::string f32_folder(const ScratchFolder& scratch) {
    ModelShell shell{HfFolder(golden(GetParam()))};
    const auto value = [&](const Parameter& p) {
      Tensor t = Tensor::empty(runtime_.memory(), p.spec.shape, DType::kF32);
      Tensor matrix = t.view({t.rows(), t.cols()});
      fill_normal(runtime_, matrix, random_site(5, p.spec.name), 1.0f / 3, 0, 0);
      return t;
    };
    write_hf_folder(runtime_, scratch / "f32", shell.config().to_hf(), shell.names(), shell.registry(), value, {});
    return scratch / "f32";
  }

  Runtime runtime_{{.threads = 2}};
};

TEST_P(HfRoundTrip, KeepsEveryTensorInItsDtype) {
  const ScratchFolder scratch;
  for (const std::string& dir : {golden(GetParam()), f32_folder(scratch)}) {
    Source source(runtime_, dir);
    write(scratch / "out", source, std::cref(source.values));
    expect_same_tensors(dir, scratch / "out");
    EXPECT_EQ(ModelShell(HfFolder(scratch / "out")).config().to_hf(), source.shell.config().to_hf());
  }
}

TEST_P(HfRoundTrip, KeepsEveryTensorThroughHdf5) {
  const ScratchFolder scratch;
  for (const std::string& dir : {golden(GetParam()), f32_folder(scratch)}) {
    Source source(runtime_, dir);
    write_hdf5_model(runtime_, scratch / "m.h5", source.shell.config().to_hf(), source.shell.registry(),
                     std::cref(source.values), {.dtype_of = source.dtypes()});
    const Hdf5Model file(scratch / "m.h5");
    ModelShell shell(file.config(), file.path());
    file.check(shell.registry());
    HfFolderOptions how;
    how.dtype = source.folder.dtype();
    how.dtype_of = [&](const Parameter& p) { return file.dtype(p); };
    write_hf_folder(
        runtime_, scratch / "out", file.config(), shell.names(), shell.registry(),
        [&](const Parameter& p) { return file.whole(runtime_, p); }, how);
    expect_same_tensors(dir, scratch / "out");
  }
}

// transformers 4 has rope_theta and rope_scaling where 5 has rope_parameters; both stand in what is written.
TEST_P(HfRoundTrip, ReadsBothDialectsOfTheConfiguration) {
  std::ifstream file(golden(GetParam()) + "/config.json");
  const json five = json::parse(file);
  const json written = ModelShell(five, "5").config().to_hf();
  EXPECT_EQ(ModelShell(written, "written").config().to_hf(), written);
  if (!five.contains("rope_parameters")) return;  // learned positions
  json four = five, only_five = written, only_four = written;
  json rope = four["rope_parameters"];
  four.erase("rope_parameters");
  four["rope_theta"] = rope["rope_theta"];
  rope.erase("rope_theta");
  four["rope_scaling"] = rope["rope_type"] == "default" ? json() : rope;
  only_four.erase("rope_parameters");
  only_five.erase("rope_theta");
  only_five.erase("rope_scaling");
  for (const json& dialect : {four, only_four, only_five})
    EXPECT_EQ(ModelShell(dialect, "4").config().to_hf(), written) << dialect;
}

TEST_P(HfRoundTrip, ReadsEveryOtherWayOfNamingAsWell) {
  const ScratchFolder scratch;
  Source source(runtime_, golden(GetParam()));
  for (const NameMap& map : source.shell.names().also_read) {
    ForeignNames other = source.shell.names();
    other.map = map;
    HfFolderOptions how;
    how.dtype_of = source.dtypes();
    write_hf_folder(runtime_, scratch / "other", source.shell.config().to_hf(), other, source.shell.registry(),
                    std::cref(source.values), how);
    Source again(runtime_, scratch / "other");
    write(scratch / "out", again, std::cref(again.values));
    expect_same_tensors(golden(GetParam()), scratch / "out");
  }
}

TEST(HfExport, LeavesOutAModuleThatTransformersWouldWarnOf) {
  const ScratchFolder scratch;
  Runtime runtime({.threads = 2});
  Source source(runtime, golden("deepseek_v3_mtp"));
  ModelShell target(source.shell.config().to_hf(), "target", ModuleInFile::kAuto);
  EXPECT_NE(target.left_out(), "");
  HfFolderOptions how;
  how.dtype = DType::kBF16;
  how.dtype_of = [](const Parameter&) { return DType::kBF16; };
  const auto value = [&](const Parameter& p) { return source.values(*source.shell.registry().find(p.spec.name)); };
  write_hf_folder(runtime, scratch / "out", target.config().to_hf(), target.names(), target.registry(), value, how);
  expect_same_tensors(golden("deepseek_v3_mtp"), scratch / "out", "model.layers.2.");
}

TEST(HfExport, KnowsThatTransformersLeavesTheModuleOut) {
  const ScratchFolder scratch;
  std::filesystem::copy(golden("deepseek_v3"), scratch / "in");
  std::ifstream before(golden("deepseek_v3") + "/config.json");
  json config = json::parse(before);
  config["num_nextn_predict_layers"] = 1;
  std::ofstream(scratch / "in/config.json") << config;
  ModelShell shell{HfFolder(scratch / "in")};
  EXPECT_NE(shell.left_out().find("does not hold"), std::string::npos) << shell.left_out();
  EXPECT_EQ(shell.config().to_hf()["num_nextn_predict_layers"], 0);
  EXPECT_EQ(shell.registry().find("mtp.norm.weight"), nullptr);
}

TEST(HfExport, RefusesAModuleOfWhichSomeIsMissing) {
  const ScratchFolder scratch;
  Runtime runtime({.threads = 2});
  Source source(runtime, golden("deepseek_v3_mtp"));
  ForeignNames names = source.shell.names();
  std::erase_if(names.map, [](const NameMapEntry& e) { return e.external == "model.layers.2.eh_proj.weight"; });
  write_hf_folder(runtime, scratch / "out", source.shell.config().to_hf(), names, source.shell.registry(),
                  std::cref(source.values), {});
  try {
    Source(runtime, scratch / "out");
    ADD_FAILURE();
  } catch (const DataError& e) {
    EXPECT_NE(std::string(e.what()).find("1 missing: model.layers.2.eh_proj.weight"), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, HfRoundTrip,
                         ::testing::Values("gpt2", "llama", "llama_scaled", "mixtral", "qwen3_moe", "deepseek_v2",
                                           "deepseek_v3", "deepseek_v3_mtp", "qwen2", "qwen3", "gemma2"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace deepflow
