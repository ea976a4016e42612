#include "checkpoint/blockstore/new_checkpoint.h"

#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/contents.h"
#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/boxes.h"
#include "checkpoint/codecs/choice.h"
#include "core/error.h"

#include <algorithm>
#include <memory>
#include <optional>

namespace deepflow {
namespace {

class Task {
 public:
  Task(const std::string& dir, const CheckpointContent& content, const NewCheckpointOptions& options)
      : dir_(dir),
        content_(content),
        options_(options),
        name_(step_folder_name(content.step)),
        plan_(plan_save({content.tensors}, options.writers)) {
    manifest_.step = content.step;
    manifest_.run = content.run;
    manifest_.tensors = plan_.tensors;
  }

  NewCheckpoint run() {
    begin_checkpoint(dir_, name_);
    try {
      write();
      const std::string text = manifest_.write();
      if (options_.check) options_.check(StoredCheckpoint(dir_ + "/" + name_while_written(name_), text));
      commit_checkpoint(dir_, name_, text);
    } catch (...) {
      writers_.clear();
      abandon_checkpoint(dir_, name_);
      throw;
    }
    return {dir_ + "/" + name_, stats_};
  }

 private:
  void write() {
    for (int w = 0; w < options_.writers; ++w)
      writers_.push_back(std::make_unique<BlockWriter>(dir_, name_, name_while_written(name_), w));
    for (const PlannedSlice& slice : plan_.slices) write(slice);
    for (const auto& writer : writers_) {
      manifest_.files.push_back(writer->finish());
      stats_ += writer->stats();
    }
    writers_.clear();
  }

  // Whole blocks as soon as they are there, so that a slice needs not fit into memory.
  void write(const PlannedSlice& planned) {
    StoredTensor& tensor = manifest_.tensors[planned.tensor];
    StoredSlice slice{planned.writer, -1, 0, planned.contributor, {planned.box}};
    slice.num_blocks = (tensor.slice_bytes(slice) + kBlockBytes - 1) / kBlockBytes;
    if (tensor.slices.empty()) codec_.reset();
    values_.clear();
    for (const Box& part : cut(planned.box, kPartElements)) {
      const size_t before = values_.size();
      values_.resize(before + static_cast<size_t>(part.num_elements()) * size_of(tensor.dtype));
      content_.read(content_.tensors[planned.entry], part, std::span(values_).subspan(before));
      append(tensor, slice, values_.size() / kBlockBytes * kBlockBytes);
    }
    append(tensor, slice, values_.size());
    tensor.slices.push_back(std::move(slice));
  }

  void append(const StoredTensor& tensor, StoredSlice& slice, size_t bytes) {
    if (bytes == 0) return;
    const std::span<const char> values(values_.data(), bytes);
    if (!codec_) codec_ = options_.codec ? options_.codec(tensor, values) : chooser_.choose(values, tensor.dtype).codec;
    const int64_t first =
        writers_[static_cast<size_t>(slice.file)]->append(values, tensor.dtype, *codec_, {}, Differences::kNever);
    if (slice.first_block < 0) slice.first_block = first;
    values_.erase(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(bytes));
  }

  const std::string& dir_;
  const CheckpointContent& content_;
  const NewCheckpointOptions& options_;
  const std::string name_;
  const SavePlan plan_;
  Manifest manifest_;
  std::vector<std::unique_ptr<BlockWriter>> writers_;
  CodecChooser chooser_;
  std::optional<CodecId> codec_;  // of the tensor that is being written
  std::vector<char> values_;
  WriteStats stats_;
};

}  // namespace

NewCheckpoint write_new_checkpoint(const std::string& dir, const CheckpointContent& content,
                                   const NewCheckpointOptions& options) {
  if (!list_checkpoints(dir).empty())
    throw ConfigError("{}: holds checkpoints already; name a folder that does not exist", dir);
  return Task(dir, content, options).run();
}

CheckpointContent content_of(const StoredCheckpoint& checkpoint, TensorReader& reader, const std::string& kind) {
  CheckpointContent content;
  content.step = checkpoint.manifest().step;
  content.run = checkpoint.manifest().run;
  for (const StoredTensor& t : checkpoint.manifest().tensors)
    if (kind.empty() || state_kind(t.name) == kind)
      for (const auto& [contributor, boxes] : boxes_of_contributors(t))
        content.tensors.push_back({t.name, t.dtype, t.shape, t.rule, contributor,
                                   t.rule == Reshard::kSum ? boxes : std::vector<Box>{whole_box(t.shape)}});
  content.read = [&](const HeldEntry& e, const Box& box, std::span<char> out) {
    reader.read(*checkpoint.manifest().find(e.name), {box}, out, e.contributor);
  };
  return content;
}

}  // namespace deepflow
