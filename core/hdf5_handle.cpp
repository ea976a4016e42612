#include "core/hdf5_handle.h"

#include <cstdlib>
#include <utility>

namespace deepflow {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

herr_t keep_innermost(unsigned depth, const H5E_error2_t* error, void* text) {
  if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
  return 0;
}

}  // namespace

Hdf5Lock::Hdf5Lock() : lock_(library_mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

std::string hdf5_cause() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &text);
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text.empty() ? "HDF5 gives no cause" : text;
}

int hdf5_errno() {
  const std::string cause = hdf5_cause();
  constexpr const char* kMark = "errno = ";
  const size_t at = cause.find(kMark);
  return at == std::string::npos ? 0 : std::atoi(cause.c_str() + at + std::char_traits<char>::length(kMark));
}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  reset();
  id_ = std::exchange(other.id_, -1);
  close_ = other.close_;
  return *this;
}

bool Hdf5Handle::reset() {
  if (id_ < 0) return true;
  return close_(std::exchange(id_, -1)) >= 0;
}

}  // namespace deepflow
