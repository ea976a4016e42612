#include "parallel/schedule.h"

namespace deepflow {

std::vector<int> Schedule::chunks_of(int rank) const {
  std::vector<int> chunks;
  for (int chunk = 0; chunk < num_chunks(); ++chunk)
    if (rank_of_chunk[static_cast<size_t>(chunk)] == rank) chunks.push_back(chunk);
  return chunks;
}

}  // namespace deepflow
