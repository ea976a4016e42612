#include "checkpoint/blockstore/find_checkpoint.h"
#include "core/error.h"
#include "engine/checkpoint_export.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <memory>
#include <string>

namespace deepflow {
namespace {

struct ConvertArguments {
  std::string source, out;
  std::string from = "checkpoint", to, dtype = "f32", codec = "auto", tokenizer;
  int writers = 1, threads = available_cores();
};

void refuse(bool given, const char* option, const char* only) {
  if (given) throw ConfigError("{}: only {}", option, only);
}

void tell(const NewCheckpoint& made, const std::string& lossy) {
  fmt::print("{}: {}{} of parameters in {}\n", made.path, lossy.empty() ? "" : fmt::format("LOSSY ({}), ", lossy),
             bytes_text(made.stats.raw), bytes_text(made.stats.stored));
}

int import(const ConvertArguments& a, Runtime& runtime) {
  if (!a.to.empty() && a.to != "blockstore") throw ConfigError("--from {} goes --to blockstore only", a.from);
  refuse(a.dtype != "f32" || a.codec != "auto", "--dtype and --codec", "from a checkpoint");
  tell(a.from == "hf" ? import_hugging_face(runtime, a.source, a.out, a.writers)
                      : import_hdf5(runtime, a.source, a.out, a.writers),
       "");
  return 0;
}

int convert(const ConvertArguments& a) {
  Runtime runtime({.threads = a.threads});
  if (a.from != "checkpoint") return import(a, runtime);
  if (a.to.empty()) throw ConfigError("--to is missing: hf, hdf5 or blockstore");
  const StoredCheckpoint checkpoint(find_checkpoint(a.source));
  const DType dtype = dtype_from_name(a.dtype);
  refuse(!a.tokenizer.empty() && a.to != "hf", "--tokenizer", "with --to hf");
  if (a.to == "blockstore") {
    if (dtype == DType::kF16) throw ConfigError("--dtype f16: the blocks of a checkpoint are f32 or bf16");
    const ParameterExportOptions how{.dtype = dtype, .codec = a.codec, .writers = a.writers};
    const NewCheckpoint made = export_parameters(runtime, checkpoint, a.out, how);
    tell(made, StoredCheckpoint(made.path).manifest().lossy());
    return 0;
  }
  refuse(a.codec != "auto" || a.writers != 1, "--codec and --writers", "with --to blockstore");
  const Exported e = a.to == "hf" ? export_hugging_face(runtime, checkpoint, a.out, dtype, a.tokenizer)
                                  : export_hdf5(runtime, checkpoint, a.out, dtype);
  fmt::print("{}: {} parameters in {}, {} read\n", a.out, e.parameters, a.dtype, bytes_text(e.bytes_read));
  for (const std::string& note : e.notes) fmt::print("{}\n", note);
  return 0;
}

}  // namespace

void add_ckpt_convert(Cli& cli, CLI::App* ckpt) {
  const auto a = std::make_shared<ConvertArguments>();
  CLI::App* command = cli.add_command(
      "convert", "parameters of a checkpoint as a model for other programs, and back", [a] { return convert(*a); },
      ckpt);
  command->add_option("source", a->source, "checkpoint; with --from a folder or file of that kind")
      ->required()
      ->type_name("SOURCE");
  command->add_option("out", a->out, "new folder; of HDF5 a file")->required()->type_name("OUT");
  command->add_option("--from", a->from, "what SOURCE is")
      ->check(CLI::IsMember({"checkpoint", "hf", "hdf5"}))
      ->capture_default_str();
  command->add_option("--to", a->to, "hf: Hugging Face folder; hdf5; blockstore: a checkpoint of the parameters alone")
      ->check(CLI::IsMember({"hf", "hdf5", "blockstore"}));
  command->add_option("--dtype", a->dtype, "of the parameters")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command
      ->add_option("--codec", a->codec, "with --to blockstore; nf4 and int8 are LOSSY: no run resumes from such values")
      ->check(CLI::IsMember({"auto", "raw", "zstd", "planes", "nf4", "int8"}))
      ->capture_default_str();
  command->add_option("--writers", a->writers, "data files of a checkpoint")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--tokenizer", a->tokenizer, "with --to hf: its file or folder; absent: that of the run's recipe")
      ->type_name("FILE");
  command->add_option("--threads", a->threads, "threads")->capture_default_str()->check(CLI::Range(1, 4096));
}

}  // namespace deepflow
