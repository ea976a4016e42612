#include "parallel/communicator.h"

#include "core/error.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace deepflow {
namespace {

// Host memory that an operation keeps alive even when the caller left by an exception.
template <class T>
Tensor host_tensor(int64_t count, DType dtype) {
  const auto memory = std::make_shared<std::vector<T>>(static_cast<size_t>(std::max<int64_t>(count, 1)));
  return Tensor::wrap(memory->data(), {count}, dtype, {}, memory);
}

// The bytes of every member's `values`, in rank order; the same number of values everywhere.
template <class T>
std::vector<T> gather_values(Communicator& comm, std::span<const T> values, std::string_view name) {
  static_assert(sizeof(T) == sizeof(int64_t));
  const auto count = static_cast<int64_t>(values.size());
  const std::vector<int64_t> counts(static_cast<size_t>(comm.size()), count);
  const Tensor in = host_tensor<int64_t>(count, DType::kI64);
  const Tensor out = host_tensor<int64_t>(count * comm.size(), DType::kI64);
  if (count > 0) std::memcpy(in.raw(), values.data(), values.size_bytes());
  comm.all_gather(in, out, counts, name)->wait_host();
  std::vector<T> result(static_cast<size_t>(count * comm.size()));
  if (count > 0) std::memcpy(result.data(), out.raw(), result.size() * sizeof(T));
  return result;
}

template <class T, class F>
std::vector<T> fold(Communicator& comm, std::span<const T> values, std::string_view name, F&& combine) {
  const std::vector<T> all = gather_values(comm, values, name);
  std::vector<T> result(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(values.size()));
  for (size_t r = 1; r < static_cast<size_t>(comm.size()); ++r)
    for (size_t i = 0; i < values.size(); ++i) result[i] = combine(result[i], all[r * values.size() + i]);
  return result;
}

}  // namespace

std::vector<double> sum_doubles(Communicator& comm, std::span<const double> values, std::string_view name) {
  return fold(comm, values, name, [](double a, double b) { return a + b; });
}

std::vector<double> max_doubles(Communicator& comm, std::span<const double> values, std::string_view name) {
  return fold(comm, values, name, [](double a, double b) { return b > a || b != b ? b : a; });
}

std::vector<int64_t> sum_integers(Communicator& comm, std::span<const int64_t> values, std::string_view name) {
  return fold(comm, values, name, [](int64_t a, int64_t b) { return a + b; });
}

std::vector<std::string> gather_texts(Communicator& comm, const std::string& text, std::string_view name) {
  const auto length = static_cast<int64_t>(text.size());
  const std::vector<int64_t> lengths = gather_values(comm, std::span(&length, 1), name);
  const Tensor in = host_tensor<char>(length, DType::kU8);
  const Tensor out = host_tensor<char>(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), DType::kU8);
  std::copy(text.begin(), text.end(), static_cast<char*>(in.raw()));
  comm.all_gather(in, out, lengths, name)->wait_host();
  std::vector<std::string> texts;
  const char* next = static_cast<const char*>(out.raw());
  for (const int64_t n : lengths) {
    texts.emplace_back(next, static_cast<size_t>(n));
    next += n;
  }
  return texts;
}

std::string broadcast_text(Communicator& comm, const std::string& text, int root, std::string_view name) {
  DF_ASSERT(root >= 0 && root < comm.size());
  const Tensor length = host_tensor<int64_t>(1, DType::kI64);
  *length.data<int64_t>() = static_cast<int64_t>(text.size());
  comm.broadcast(length, root, name)->wait_host();
  const int64_t count = *length.data<int64_t>();
  const Tensor bytes = host_tensor<char>(count, DType::kU8);
  if (comm.rank() == root) std::copy(text.begin(), text.end(), static_cast<char*>(bytes.raw()));
  comm.broadcast(bytes, root, name)->wait_host();
  return {static_cast<const char*>(bytes.raw()), static_cast<size_t>(count)};
}

}  // namespace deepflow
