#include "checkpoint/blockstore/save_task.h"

#include "checkpoint/codecs/choice.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

namespace deepflow {
namespace {

using Json = nlohmann::json;

constexpr int64_t kTryAgain = 8;  // saves until it is tried again whether differences pay
constexpr const char* kFailed = "failed";

// What one writer did.
struct Written {
  StoredFiles files;
  std::map<size_t, int64_t> first;  // block of each slice
  BlockIndex index;
  BlockSource own;
  WriteStats stats;
  std::map<std::string, std::set<size_t>> tensors_of_codec;
  std::string error;
};

class Task {
 public:
  Task(Communicator& comm, const CheckpointOptions& options, const SavePlan& plan, const Snapshot& snapshot,
       EarlierSlices& earlier)
      : comm_(comm),
        options_(options),
        plan_(plan),
        snapshot_(snapshot),
        earlier_(earlier),
        name_(step_folder_name(snapshot.step)) {}

  SaveReport run() {
    report_.step = snapshot_.step;
    report_.path = options_.dir + "/" + name_;
    const auto begin = std::chrono::steady_clock::now();
    report_.error = agree(is_first() ? attempt([&] { begin_checkpoint(options_.dir, name_); }) : "");
    if (report_.error.empty()) write();
    report_.writing = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return report_;
  }

 private:
  bool is_first() const { return comm_.rank() == 0; }

  template <class F>
  static std::string attempt(F&& f) {
    try {
      f();
      return "";
    } catch (const std::exception& e) {
      return e.what();
    }
  }

  // What rank 0 says.
  std::string agree(const std::string& text) { return broadcast_text(comm_, text, 0, "checkpoint"); }

  void write() {
    const auto threads = static_cast<size_t>(options_.threads);
    std::vector<Written> written(threads);
    std::vector<std::thread> others;
    const auto work = [&](size_t t) {
      written[t].error =
          attempt([&] { write_files(comm_.rank() * options_.threads + static_cast<int>(t), written[t]); });
    };
    for (size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (std::thread& t : others) t.join();
    const std::vector<std::string> told = gather_texts(comm_, tell(written), "checkpoint written");
    const std::string outcome = agree(is_first() ? conclude(told) : "");
    const Json json = Json::parse(outcome);
    report_.error = json.value("error", "");
    report_.warning = json.value("warning", "");
    report_.codecs = json.value("codecs", "");
    if (json.contains("pruned")) report_.pruned = json["pruned"].get<std::vector<std::string>>();
    if (!report_.error.empty()) return;
    for (const std::string& text : told) add_stats(Json::parse(text));
    for (const Written& w : written) remember(w);
    ++earlier_.saves;
  }

  void write_files(int writer, Written& w) {
    BlockWriter file(options_.dir, name_, name_while_written(name_), writer);
    CodecChooser chooser;
    std::map<size_t, CodecId> codecs;
    for (size_t i = 0; i < snapshot_.slices.size(); ++i) {
      const size_t number = snapshot_.slices[i];
      const PlannedSlice& slice = plan_.slices[number];
      if (slice.writer != writer) continue;
      const DType dtype = plan_.tensors[slice.tensor].dtype;
      auto codec = codecs.find(slice.tensor);
      if (codec == codecs.end())
        codec = codecs.emplace(slice.tensor, choose(chooser, snapshot_.values[i], dtype)).first;
      w.tensors_of_codec[name_of(codec->second)].insert(slice.tensor);
      w.first[number] = append(file, number, snapshot_.values[i], dtype, codec->second);
    }
    w.files = file.finish();
    w.index = file.index();
    w.own = file.own();
    w.stats = file.stats();
  }

  CodecId choose(CodecChooser& chooser, std::span<const char> values, DType dtype) const {
    if (options_.codec != "auto") return codec_from_name(options_.codec).value();
    return chooser.choose(values, dtype).codec;
  }

  int64_t append(BlockWriter& file, size_t number, std::span<const char> values, DType dtype, CodecId codec) const {
    static const EarlierBlocks kNone;
    const auto known = earlier_.of_slice.find(number);
    if (known == earlier_.of_slice.end()) return file.append(values, dtype, codec, kNone, Differences::kNever);
    const EarlierSlices::Slice& slice = known->second;
    Differences differences = slice.differences ? Differences::kAlways : Differences::kNever;
    if (earlier_.saves >= slice.try_at) differences = Differences::kTry;
    return file.append(values, dtype, codec, slice.blocks, options_.differences ? differences : Differences::kNever);
  }

  static std::string tell(const std::vector<Written>& written) {
    Json json = Json::object();
    WriteStats stats;
    std::map<std::string, std::set<size_t>> tensors_of_codec;
    for (const Written& w : written) {
      if (!w.error.empty() && !json.contains(kFailed)) json[kFailed] = w.error;
      Json first = Json::array();
      for (const auto& [slice, block] : w.first) first.push_back({slice, block});
      json["writers"].push_back({{"data", w.files.data_bytes},
                                 {"index", w.files.index_bytes},
                                 {"lo", w.files.index_digest.lo},
                                 {"hi", w.files.index_digest.hi},
                                 {"first", std::move(first)}});
      for (const auto& [codec, tensors] : w.tensors_of_codec)
        tensors_of_codec[codec].insert(tensors.begin(), tensors.end());
      stats += w.stats;
    }
    for (const auto& [codec, tensors] : tensors_of_codec) json["codecs"][codec] = tensors.size();
    json["stats"] = {stats.raw, stats.stored, stats.referenced, stats.differences};
    return json.dump();
  }

  void add_stats(const Json& told) {
    const auto s = told["stats"].get<std::vector<int64_t>>();
    report_.stats += WriteStats{s[0], s[1], s[2], s[3]};
  }

  // Of rank 0: what everybody is told.
  std::string conclude(const std::vector<std::string>& told) {
    Json outcome = Json::object();
    std::vector<Json> ranks;
    for (size_t rank = 0; rank < told.size(); ++rank) {
      ranks.push_back(Json::parse(told[rank]));
      if (ranks.back().contains(kFailed) && !outcome.contains("error"))
        outcome["error"] = fmt::format("rank {}: {}", rank, ranks.back()[kFailed].get<std::string>());
    }
    if (!outcome.contains("error")) {
      const std::string error = attempt([&] { commit_checkpoint(options_.dir, name_, manifest_of(ranks).write()); });
      if (!error.empty()) outcome["error"] = error;
    }
    if (outcome.contains("error")) {
      abandon_checkpoint(options_.dir, name_);
      return outcome.dump();
    }
    if (ranks.front().contains("codecs"))
      for (const auto& [codec, tensors] : ranks.front()["codecs"].items())
        outcome["codecs"] = outcome.value("codecs", "") + fmt::format("{}{} {}", outcome.contains("codecs") ? ", " : "",
                                                                      codec, tensors.get<size_t>());
    const std::string warning = attempt([&] {
      const Retention retention{.keep = options_.keep, .keep_every = options_.keep_every};
      outcome["pruned"] = prune_checkpoints(options_.dir, retention).removed;
    });
    if (!warning.empty()) outcome["warning"] = warning;
    return outcome.dump();
  }

  Manifest manifest_of(const std::vector<Json>& ranks) const {
    Manifest m;
    m.step = snapshot_.step;
    m.run = snapshot_.run;
    m.tensors = plan_.tensors;
    std::vector<int64_t> first(plan_.slices.size(), 0);
    for (const Json& rank : ranks)
      for (const Json& w : rank["writers"]) {
        m.files.push_back({w["data"].get<uint64_t>(),
                           w["index"].get<uint64_t>(),
                           {w["lo"].get<uint64_t>(), w["hi"].get<uint64_t>()}});
        for (const Json& pair : w["first"]) first.at(pair[0].get<size_t>()) = pair[1].get<int64_t>();
      }
    for (size_t i = 0; i < plan_.slices.size(); ++i) {
      const PlannedSlice& planned = plan_.slices[i];
      StoredTensor& tensor = m.tensors[planned.tensor];
      StoredSlice slice{planned.writer, first[i], 0, planned.contributor, {planned.box}};
      slice.num_blocks = (tensor.slice_bytes(slice) + kBlockBytes - 1) / kBlockBytes;
      tensor.slices.push_back(std::move(slice));
    }
    return m;
  }

  void remember(const Written& w) {
    for (const auto& [number, first] : w.first) {
      const PlannedSlice& planned = plan_.slices[number];
      const int64_t bytes =
          planned.box.num_elements() * static_cast<int64_t>(size_of(plan_.tensors[planned.tensor].dtype));
      EarlierSlices::Slice& slice = earlier_.of_slice[number];
      const bool was_tried = earlier_.saves >= slice.try_at && !slice.blocks.empty();
      slice.blocks = earlier_blocks(w.index, w.own, first, (bytes + kBlockBytes - 1) / kBlockBytes);
      if (!was_tried) continue;
      slice.differences = std::any_of(slice.blocks.begin(), slice.blocks.end(),
                                      [](const EarlierBlock& b) { return b.record.codec == CodecId::kDelta; });
      slice.try_at = earlier_.saves + kTryAgain;
    }
  }

  Communicator& comm_;
  const CheckpointOptions& options_;
  const SavePlan& plan_;
  const Snapshot& snapshot_;
  EarlierSlices& earlier_;
  const std::string name_;
  SaveReport report_;
};

}  // namespace

SaveReport write_checkpoint(Communicator& comm, const CheckpointOptions& options, const SavePlan& plan,
                            const Snapshot& snapshot, EarlierSlices& earlier) {
  try {
    return Task(comm, options, plan, snapshot, earlier).run();
  } catch (const std::exception& e) {
    SaveReport report;
    report.step = snapshot.step;
    report.error = e.what();
    return report;
  }
}

}  // namespace deepflow
