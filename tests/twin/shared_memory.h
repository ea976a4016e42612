#pragma once

#include <cstddef>
#include <cstdint>

namespace twin {

constexpr unsigned kMaxStaticShared = 48 << 10;
constexpr unsigned kMaxShared = 227 << 10;  // of a block on sm_90; sm_80 has 163 KiB

// Shared memory of the block that is about to run: nothing static yet, `dynamic_bytes` as the launch asked, and not
// more than `allowed_bytes` of both. Arrays lie apart, so that one cannot run into the next.
void start_shared(size_t dynamic_bytes, size_t allowed_bytes);

// True when [address, address + n) lies inside one array.
bool inside_shared_array(uintptr_t address, size_t n);

}  // namespace twin
