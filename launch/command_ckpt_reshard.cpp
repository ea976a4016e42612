#include "checkpoint/blockstore/compare.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "checkpoint/blockstore/new_checkpoint.h"
#include "core/error.h"
#include "launch/ckpt_text.h"
#include "launch/cli.h"
#include "launch/command_ckpt.h"

#include <fmt/format.h>

#include <memory>
#include <string>

namespace deepflow {
namespace {

struct ReshardArguments {
  std::string checkpoint, out, codec = "auto";
  int writers = 1, threads = available_cores();
};

int reshard(const ReshardArguments& arguments) {
  const StoredCheckpoint from(find_checkpoint(arguments.checkpoint));
  const ThreadPool pool(arguments.threads);
  TensorReader reader(from, &pool);
  const CheckpointContent content = content_of(from, reader);
  NewCheckpointOptions how;
  how.writers = arguments.writers;
  if (const auto codec = codec_from_name(arguments.codec))
    how.codec = [codec](const StoredTensor&, std::span<const char>) { return *codec; };
  int64_t elements = 0;
  how.check = [&](const StoredCheckpoint& written) {
    const Comparison c = compare_checkpoints(from, written, pool);
    if (!c.is_same())
      throw DataError("{}: was not written as it was read from {}; is the disk or the memory faulty?", written.path(),
                      from.path());
    elements = c.elements;
  };
  const NewCheckpoint made = write_new_checkpoint(arguments.out, content, how);
  fmt::print("{}: {} in {} by {} writer{}; {} elements read back and found the same, bit for bit\n", made.path,
             bytes_text(made.stats.raw), bytes_text(made.stats.stored), arguments.writers,
             arguments.writers == 1 ? "" : "s", elements);
  return 0;
}

}  // namespace

void add_ckpt_reshard(Cli& cli, CLI::App* ckpt) {
  const auto arguments = std::make_shared<ReshardArguments>();
  CLI::App* command = cli.add_command(
      "reshard", "write a checkpoint anew: other files or codec, no references to earlier ones, the same values",
      [arguments] { return reshard(*arguments); }, ckpt);
  command->add_option("checkpoint", arguments->checkpoint, "DIR/step-NNNNNNNN; of a folder of them the newest")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("out", arguments->out, "new folder for it: OUT/step-NNNNNNNN")->required()->type_name("OUT");
  command->add_option("--writers", arguments->writers, "data files, the bytes spread evenly")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--codec", arguments->codec, "how blocks are compressed, without loss")
      ->check(CLI::IsMember({"auto", "raw", "zstd", "planes"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "threads that read")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
}

}  // namespace deepflow
