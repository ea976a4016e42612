#include "tests/twin/shared_memory.h"

#include "tests/twin/address_space.h"
#include "tests/twin/kernel_interface.h"
#include "tests/twin/thread_block.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace twin {

namespace {

constexpr unsigned kGap = 64;
constexpr unsigned kGranule = 16;

struct Array {
  const void* key;
  unsigned offset, bytes;
};

std::vector<Array> arrays;                           // of the running block; the dynamic one has no key
uint16_t array_of_granule[kSharedBytes / kGranule];  // index + 1
unsigned top, static_bytes, dynamic_bytes, allowed_bytes;

void* add_array(const void* key, size_t bytes, size_t alignment) {
  const unsigned align = static_cast<unsigned>(std::max<size_t>(alignment, kGranule));
  const unsigned offset = (top + kGap + align - 1) / align * align;
  const auto size = static_cast<unsigned>(bytes);
  arrays.push_back({key, offset, size});
  std::fill_n(array_of_granule + offset / kGranule, (size + kGranule - 1) / kGranule,
              static_cast<uint16_t>(arrays.size()));
  top = (offset + size + kGranule - 1) / kGranule * kGranule;
  void* p = reinterpret_cast<void*>(kSharedBase + offset);
  std::memset(p, 0xff, bytes);
  return p;
}

}  // namespace

void start_shared(size_t dynamic, size_t allowed) {
  for (const Array& a : arrays) {
    std::fill_n(array_of_granule + a.offset / kGranule, (a.bytes + kGranule - 1) / kGranule, uint16_t{0});
  }
  arrays.clear();
  top = static_bytes = 0;
  dynamic_bytes = static_cast<unsigned>(dynamic);
  allowed_bytes = static_cast<unsigned>(allowed);
  if (dynamic) add_array(nullptr, dynamic, kGranule);
}

bool inside_shared_array(uintptr_t address, size_t n) {
  const unsigned id = array_of_granule[(address - kSharedBase) / kGranule];
  return id && address + n <= kSharedBase + arrays[id - 1].offset + arrays[id - 1].bytes;
}

void* static_shared(const void* key, size_t bytes, size_t alignment) {
  for (const Array& a : arrays) {
    if (a.key == key) return reinterpret_cast<void*>(kSharedBase + a.offset);
  }
  static_bytes += static_cast<unsigned>(bytes);
  if (static_bytes > kMaxStaticShared) {
    stop_grid(Kind::kLimit, "static shared memory over 48 KiB", __builtin_return_address(0));
  }
  if (static_bytes + dynamic_bytes > allowed_bytes) {
    stop_grid(Kind::kLimit, "static and dynamic shared memory are more than the launch may use",
              __builtin_return_address(0));
  }
  return add_array(key, bytes, alignment);
}

void* dynamic_shared() {
  if (!dynamic_bytes) {
    stop_grid(Kind::kOutOfBounds, "dynamic shared memory used, but the launch asked for none",
              __builtin_return_address(0));
  }
  return reinterpret_cast<void*>(kSharedBase + arrays[0].offset);
}

}  // namespace twin
