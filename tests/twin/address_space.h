#pragma once

#include <cstddef>
#include <cstdint>

namespace twin {

// Fixed places make an address tell its memory space, and make runs repeatable.
constexpr uintptr_t kDeviceBase = 0x200000000000, kDeviceBytes = uintptr_t{16} << 30;
constexpr uintptr_t kSharedBase = 0x300000000000, kSharedBytes = 512 << 10;

inline bool in_device(uintptr_t address) { return address - kDeviceBase < kDeviceBytes; }
inline bool in_device(const void* p) { return in_device(reinterpret_cast<uintptr_t>(p)); }
inline bool in_shared(uintptr_t address) { return address - kSharedBase < kSharedBytes; }

// Zeroed pages at `address` (0: anywhere), taken when first touched. Exits when the system refuses.
void* reserve(uintptr_t address, size_t bytes);

// Gives whole pages inside [address, address + bytes) back; they read as zero afterwards.
void drop_pages(uintptr_t address, size_t bytes);

// True where code of the program may read: constants, vtables, relocated read-only data.
bool in_constants(uintptr_t address, size_t bytes);

}  // namespace twin
