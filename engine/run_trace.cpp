#include "engine/run_trace.h"

#include "core/durable_file.h"
#include "core/log.h"

#include <sstream>

namespace deepflow {
namespace {

// A span a line: kind, begin and end in microseconds, name.
std::string to_text(const std::vector<Trace::Span>& spans, double start_us) {
  std::string text;
  for (const Trace::Span& s : spans)
    text += fmt::format("{} {:.3f} {:.3f} {}\n", static_cast<int>(s.kind), s.begin_us - start_us, s.end_us - start_us,
                        s.name);
  return text;
}

std::vector<Trace::Span> from_text(const std::string& text) {
  std::vector<Trace::Span> spans;
  std::istringstream in(text);
  int kind = 0;
  Trace::Span span{};
  while (in >> kind >> span.begin_us >> span.end_us && std::getline(in >> std::ws, span.name)) {
    span.kind = static_cast<SpanKind>(kind);
    spans.push_back(span);
  }
  return spans;
}

}  // namespace

RunTrace::RunTrace(Trace& trace, Communicator& comm, int64_t first_step, int64_t num_steps, std::string path)
    : trace_(trace), comm_(comm), first_(first_step), last_(first_step + num_steps - 1), path_(std::move(path)) {}

void RunTrace::before_step(int64_t step) {
  if (first_ == 0 || step != first_) return;
  // Hosts have clocks of their own: everybody counts from this barrier.
  comm_.barrier("start of the trace")->wait_host();
  start_us_ = Trace::now_us();
  trace_.set_enabled(true);
}

void RunTrace::after_step(int64_t step) {
  if (first_ == 0 || step != last_) return;
  trace_.set_enabled(false);
  write();
}

void RunTrace::write() {
  const auto texts = gather_texts(comm_, to_text(trace_.take(), start_us_), "trace");
  if (comm_.rank() != 0) return;
  std::vector<std::vector<Trace::Span>> spans;
  for (const std::string& text : texts) spans.push_back(from_text(text));
  write_file_durably(path_, to_chrome_trace(spans));
  log_info("trace of steps {} to {} is in {}", first_, last_, path_);
}

}  // namespace deepflow
