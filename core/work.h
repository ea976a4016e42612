#pragma once

#include "core/stream.h"

#include <memory>

namespace deepflow {

// Communication under way. It holds its tensors alive until it has been waited for.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait(Stream& stream) = 0;  // orders the stream behind it
  virtual void wait_host() = 0;           // throws CommError: name, sequence number, missing rank
};
using WorkPtr = std::shared_ptr<Work>;

}  // namespace deepflow
