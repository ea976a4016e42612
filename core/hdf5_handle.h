#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>

namespace deepflow {

// Debian's HDF5 is not safe with threads: every call of the library, in any thread, is made while one of these lives.
// It also keeps the library from printing its error stack.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::scoped_lock<std::recursive_mutex> lock_;
};

// What the library says about its last failure (innermost cause), for the end of a message of ours. Under Hdf5Lock.
std::string hdf5_cause();
// errno of a failed system call behind the library's last failure, 0 when there was none. Under Hdf5Lock.
int hdf5_errno();

// Owns one identifier of the library; made and destroyed under Hdf5Lock.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(other.id_), close_(other.close_) { other.id_ = -1; }
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  ~Hdf5Handle() { reset(); }

  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  bool reset();  // false when closing failed

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

}  // namespace deepflow
