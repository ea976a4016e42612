#include "engine/run_trace.h"

#include "core/durable_file.h"
#include "core/error.h"
#include "core/log.h"

#include <algorithm>
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

void RunTrace::after_step(int64_t step, const std::vector<ExpertLoad>& experts) {
  if (first_ == 0 || step < first_ || step > last_) return;
  const double now = Trace::now_us() - start_us_;
  for (const ExpertLoad& load : experts) {
    counters_.push_back({"imbalance/" + load.layer, now, load.imbalance()});
    counters_.push_back({"entropy/" + load.layer, now, load.entropy()});
    counters_.push_back({"dropped/" + load.layer, now, load.dropped_share()});
  }
  if (step != last_) return;
  trace_.set_enabled(false);
  write();
}

// first_us: of the span that the trace begins with.
std::string RunTrace::with_counters(std::string trace, double first_us) const {
  const std::string end = "\n]}\n";  // of the list of events
  DF_ASSERT(trace.ends_with(end));
  trace.resize(trace.size() - end.size());
  for (const Counter& c : counters_)
    trace += fmt::format(",\n{{\"ph\":\"C\",\"name\":\"{}\",\"pid\":0,\"ts\":{:.3f},\"args\":{{\"value\":{:.6g}}}}}",
                         c.name, c.at_us - first_us, c.value);
  return trace + end;
}

void RunTrace::write() {
  const auto texts = gather_texts(comm_, to_text(trace_.take(), start_us_), "trace");
  if (comm_.rank() != 0) return;
  std::vector<std::vector<Trace::Span>> spans;
  for (const std::string& text : texts) spans.push_back(from_text(text));
  double first = counters_.empty() ? 0 : counters_.front().at_us;
  for (const auto& of_rank : spans)
    for (const Trace::Span& s : of_rank) first = std::min(first, s.begin_us);
  write_file_durably(path_, with_counters(to_chrome_trace(spans), first));
  log_info("trace of steps {} to {} is in {}", first_, last_, path_);
}

}  // namespace deepflow
