#include "core/stream.h"

namespace deepflow {
namespace {

class DoneEvent final : public Event {
 public:
  void wait_host() override {}
};

class CpuStream final : public Stream {
 public:
  Device device() const override { return {}; }
  void* native() const override { return nullptr; }
  std::shared_ptr<Event> record() override { return std::make_shared<DoneEvent>(); }
  void wait(Event& event) override { event.wait_host(); }
  void synchronize() override {}
};

}  // namespace

std::unique_ptr<Stream> make_cpu_stream() { return std::make_unique<CpuStream>(); }

}  // namespace deepflow
