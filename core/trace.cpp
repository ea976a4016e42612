#include "core/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

constexpr const char* kTracks[] = {"compute", "communication", "waiting", "input"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out;
}

}  // namespace

void Trace::add(std::string name, SpanKind kind, double begin_us, double end_us) {
  const std::lock_guard lock(mutex_);
  spans_.push_back({std::move(name), kind, begin_us, end_us});
}

std::vector<Trace::Span> Trace::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(spans_, {});
}

std::string to_chrome_trace(const std::vector<std::vector<Trace::Span>>& spans_of_rank) {
  double start = 0;
  bool any = false;
  for (const auto& spans : spans_of_rank)
    for (const auto& s : spans) {
      start = any ? std::min(start, s.begin_us) : s.begin_us;
      any = true;
    }
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* separator = "\n";
  for (size_t rank = 0; rank < spans_of_rank.size(); ++rank) {
    out += fmt::format("{}{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{},\"args\":{{\"name\":\"rank {}\"}}}}",
                       separator, rank, rank);
    separator = ",\n";
    for (int track = 0; track < 4; ++track)
      out +=
          fmt::format(",\n{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":\"{}\"}}}}",
                      rank, track, kTracks[track]);
    for (const auto& s : spans_of_rank[rank])
      out += fmt::format(
          ",\n{{\"ph\":\"X\",\"name\":\"{}\",\"cat\":\"{}\",\"pid\":{},\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f}}}",
          escaped(s.name), kTracks[static_cast<int>(s.kind)], rank, static_cast<int>(s.kind), s.begin_us - start,
          s.end_us - s.begin_us);
  }
  return out + "\n]}\n";
}

}  // namespace deepflow
