#pragma once

#include "tests/engine/course.h"
#include "tests/engine/layout_pair.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow::testing {

// The first ranks of `world`; null on the others. Collective.
std::unique_ptr<Communicator> first_ranks(Communicator& world, int count);

struct ResumedPair {
  Course course, expected;          // of rank 0
  std::vector<std::string> faults;  // of the state, and of the save
};

// Trains on the first layout, saves into dir while it trains on, resumes on the second layout, whose ranks have other
// values before, saves again and trains to the end; the second checkpoint is loaded on the first layout. Expected is
// what one rank trains without a stop; in another precision than f32, what the layout itself does. Collective over
// world; ranks that a layout leaves over wait.
ResumedPair run_pair(const LayoutPair& pair, Communicator& world, const std::string& dir);

}  // namespace deepflow::testing
