#include "engine/pipeline_links.h"

#include <fmt/format.h>

#include <set>

namespace deepflow {

PipelineLinks::PipelineLinks(Communicator& stages, std::vector<int> rank_of_chunk)
    : stage_(stages.rank()), num_stages_(stages.size()), rank_of_chunk_(std::move(rank_of_chunk)) {
  std::set<std::pair<Kind, Way>> wanted;
  for (int chunk = 0; chunk + 1 < num_chunks(); ++chunk) {
    const int here = stage_of(chunk), next = stage_of(chunk + 1);
    if (here == next) continue;
    wanted.insert({Kind::kActivation, {here, next}});
    wanted.insert({Kind::kGradient, {next, here}});
  }
  for (const auto& key : wanted) {
    const auto& [from, to] = key.second;
    const bool mine = stage_ == from || stage_ == to;
    const std::string name =
        fmt::format("pp {}-{} {}", from, to, key.first == Kind::kActivation ? "forward" : "backward");
    auto made = stages.split(mine ? 1 : 0, stage_ == from ? 0 : stage_ + 1, name);
    if (mine) ways_[key] = std::move(made);
  }
}

std::vector<int> PipelineLinks::own_chunks() const {
  std::vector<int> chunks;
  for (int chunk = 0; chunk < num_chunks(); ++chunk)
    if (stage_of(chunk) == stage_) chunks.push_back(chunk);
  return chunks;
}

WorkPtr PipelineLinks::send(Kind kind, int to, const Tensor& value) {
  const PointToPoint message{1, true, value};
  return way(kind, {stage_, to}).batch(std::span(&message, 1), kind == Kind::kActivation ? "activation" : "gradient");
}

WorkPtr PipelineLinks::receive(Kind kind, int from, const Tensor& into) {
  const PointToPoint message{0, false, into};
  return way(kind, {from, stage_}).batch(std::span(&message, 1), kind == Kind::kActivation ? "activation" : "gradient");
}

int64_t PipelineLinks::bytes_sent() const {
  int64_t bytes = 0;
  for (const auto& [key, comm] : ways_) bytes += comm->bytes().sent;
  return bytes;
}

}  // namespace deepflow
