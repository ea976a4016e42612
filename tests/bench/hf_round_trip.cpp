// A Hugging Face folder through DeepFlow to another one, one parameter in memory at a time; on the way, if asked,
// through an HDF5 file. Says what was left out.

#include "checkpoint/hdf5_model.h"
#include "checkpoint/hdf5_model_writer.h"
#include "checkpoint/hf_folder_writer.h"
#include "checkpoint/hf_values.h"
#include "core/error.h"
#include "engine/model_shell.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <string>

namespace deepflow {
namespace {

struct Options {
  std::string in, out, hdf5;
  std::string module = "auto";
};

ModuleInFile module_of(const std::string& name) {
  return name == "keep" ? ModuleInFile::kKeep : name == "auto" ? ModuleInFile::kAuto : ModuleInFile::kLeaveOut;
}

void convert(const Options& options) {
  Runtime runtime;
  const HfFolder folder(options.in);
  ModelShell source(folder);
  const HfValues values(runtime, folder, source.names(), source.registry());
  ModelShell target(source.config().to_hf(), folder.config_path(), module_of(options.module));
  for (const ModelShell* shell : {&source, &target})
    if (!shell->left_out().empty()) fmt::print("{}\n", shell->left_out());
  const auto in_source = [&](const Parameter& p) -> const Parameter& { return *source.registry().find(p.spec.name); };
  const auto dtype_of = [&](const Parameter& p) { return values.dtype(in_source(p)); };
  ForeignTensor::WholeValue value = [&](const Parameter& p) { return values(in_source(p)); };
  std::unique_ptr<Hdf5Model> between;
  if (!options.hdf5.empty()) {
    write_hdf5_model(runtime, options.hdf5, target.config().to_hf(), target.registry(), value, {.dtype_of = dtype_of});
    between = std::make_unique<Hdf5Model>(options.hdf5);
    between->check(target.registry());
    value = [&](const Parameter& p) { return between->whole(runtime, p); };
  }
  HfFolderOptions how;
  how.dtype = folder.dtype();
  how.dtype_of = dtype_of;
  write_hf_folder(runtime, options.out, target.config().to_hf(), target.names(), target.registry(), value, how);
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  deepflow::Options options;
  CLI::App app("a Hugging Face folder through DeepFlow to another one");
  app.add_option("in", options.in)->required();
  app.add_option("out", options.out)->required();
  app.add_option("--hdf5", options.hdf5, "file to go through");
  app.add_option("--module", options.module)->check(CLI::IsMember({"auto", "keep", "leave_out"}));
  CLI11_PARSE(app, argc, argv);
  try {
    deepflow::convert(options);
  } catch (const deepflow::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
  return 0;
}
