#pragma once

#include "parallel/communicator.h"
#include "tests/checkpoint/scratch_folder.h"

#include <optional>
#include <string>

namespace deepflow::testing {

// A scratch folder that all ranks of a host have in common. Making and leaving one are collective.
class SharedScratch {
 public:
  explicit SharedScratch(Communicator& all) : all_(all) {
    if (all.rank() == 0) own_.emplace();
    path_ = broadcast_text(all, own_ ? own_->path() : "", 0, "scratch folder");
  }
  ~SharedScratch() { all_.barrier("scratch folder")->wait_host(); }
  SharedScratch(const SharedScratch&) = delete;
  SharedScratch& operator=(const SharedScratch&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  Communicator& all_;
  std::optional<ScratchFolder> own_;
  std::string path_;
};

}  // namespace deepflow::testing
