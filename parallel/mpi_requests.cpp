#include "parallel/mpi_requests.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError("{} failed: {}", call, std::string(text, static_cast<size_t>(length)));
}

void MpiRequests::post(const std::vector<Message>& messages, MPI_Comm comm, int tag, int64_t message_bytes) {
  requests_.clear();
  peers_.clear();
  for (const Message& m : messages) {
    int64_t begin = 0;
    do {
      const auto part = static_cast<int>(std::min(message_bytes, m.bytes - begin));
      char* data = static_cast<char*>(m.data) + begin;
      MPI_Request request = MPI_REQUEST_NULL;
      if (m.send)
        check_mpi(MPI_Isend(data, part, MPI_BYTE, m.peer, tag, comm, &request), "MPI_Isend");
      else
        check_mpi(MPI_Irecv(data, part, MPI_BYTE, m.peer, tag, comm, &request), "MPI_Irecv");
      requests_.push_back(request);
      peers_.push_back(m.peer);
      begin += part;
    } while (begin < m.bytes);
  }
  finished_.resize(requests_.size());
  statuses_.resize(requests_.size());
  unfinished_ = static_cast<int>(requests_.size());
}

bool MpiRequests::test() {
  if (done()) return false;
  int count = 0;
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, finished_.data(), statuses_.data());
  if (code == MPI_ERR_IN_STATUS)
    for (int i = 0; i < count; ++i) check_mpi(statuses_[static_cast<size_t>(i)].MPI_ERROR, "a message");
  check_mpi(code, "MPI_Testsome");
  unfinished_ -= count;
  return count > 0;
}

std::vector<int> MpiRequests::missing() const {
  std::vector<int> peers;
  for (size_t i = 0; i < requests_.size(); ++i)
    if (requests_[i] != MPI_REQUEST_NULL) peers.push_back(peers_[i]);
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace deepflow
