#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// The checkpoint that a user means by a path: a committed one, or the newest in a folder of checkpoints or below a
// run's folder. Throws ConfigError that says what is there instead.
std::string find_checkpoint(const std::string& path);

// The folder of checkpoints that is meant: itself, or `checkpoints` below a run's. Throws ConfigError where no such
// folder exists.
std::string find_checkpoint_folder(const std::string& path);

bool is_checkpoint(const std::string& path);  // has a commit record

// What a folder of checkpoints holds beside committed ones.
struct Leftover {
  std::string name;
  std::string what;  // "unfinished", "damaged, set aside", "removed, but later ones refer to its blocks"
  int64_t bytes = 0;
};
std::vector<Leftover> list_leftovers(const std::string& dir);

}  // namespace deepflow
