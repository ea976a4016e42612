#include "tests/twin/arena.h"

#include "tests/twin/address_space.h"
#include "tests/twin/order.h"
#include "tests/twin/shadow.h"
#include "tests/twin/twin.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

namespace twin {

namespace {

constexpr size_t kChunk = 256;  // the alignment of an allocation; one owner a chunk

std::deque<Allocation> allocations(1);  // 0: none
uint32_t* owner_of_chunk;
uintptr_t top = kDeviceBase + 4096;
std::map<uintptr_t, size_t> pinned;
int open_depth = 0;

void protect(int rights) {
  mprotect(reinterpret_cast<void*>(kDeviceBase), (top - kDeviceBase + 4095) & ~4095ul, rights);
}

uint32_t& owner(uintptr_t address) { return owner_of_chunk[(address - kDeviceBase) / kChunk]; }

}  // namespace

void map_arena() {
  reserve(kDeviceBase, kDeviceBytes);
  owner_of_chunk = static_cast<uint32_t*>(reserve(0, kDeviceBytes / kChunk * sizeof(uint32_t)));
}

void* allocate_device(size_t bytes, unsigned by) {
  const uintptr_t address = (top + 2 * kChunk - 1) / kChunk * kChunk;
  if (bytes > kDeviceBytes || address + bytes + kChunk > kDeviceBase + kDeviceBytes) return nullptr;
  top = address + (bytes + kChunk - 1) / kChunk * kChunk;
  for (uintptr_t a = address; a < address + bytes; a += kChunk) owner(a) = static_cast<uint32_t>(allocations.size());
  allocations.push_back({address, bytes, by, 0});
  const OpenArena open;
  std::memset(reinterpret_cast<void*>(address), 0xff, bytes);
  return reinterpret_cast<void*>(address);
}

Allocation* allocation_at(const void* p) {
  if (!in_device(p)) return nullptr;
  Allocation& a = allocations[owner(reinterpret_cast<uintptr_t>(p))];
  return a.address == reinterpret_cast<uintptr_t>(p) && !a.freed_by ? &a : nullptr;
}

void release_device(Allocation* allocation) {
  const Access last{make_stamp(allocation->freed_by, 0, 0, 0), 0, true, false, false, nullptr};
  check_last_use(device_cells(allocation->address), allocation->bytes, last);
  const OpenArena open;
  std::memset(reinterpret_cast<void*>(allocation->address), 0xff, allocation->bytes);
  drop_pages(allocation->address, allocation->bytes);
  drop_device_cells(allocation->address, allocation->bytes);
}

std::optional<Fault> check_device(uintptr_t address, size_t n, unsigned by) {
  const uint32_t id = owner(address);
  if (!id) return Fault{Kind::kOutOfBounds, std::to_string(n) + " bytes where nothing is allocated"};
  const Allocation& a = allocations[id];
  if (address + n > a.address + a.bytes) {
    return Fault{Kind::kOutOfBounds, std::to_string(n) + " bytes at offset " + std::to_string(address - a.address) +
                                         " of an allocation of " + std::to_string(a.bytes)};
  }
  if (a.freed_by && happens_before(a.freed_by, by)) return Fault{Kind::kUseAfterFree, "freed memory"};
  if (a.freed_by && !happens_before(by, a.freed_by))
    return Fault{Kind::kLifetime, "the free has no order with this use"};
  if (!happens_before(a.allocated_by, by)) return Fault{Kind::kLifetime, "this use has no order with the allocation"};
  return std::nullopt;
}

bool touch_device(const void* p, size_t n, bool write, unsigned by, const char* what) {
  if (n == 0 || !in_device(p)) return true;
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (const auto fault = check_device(address, n, by)) {
    report(fault->kind, std::string(what) + ": " + fault->text);
    return false;
  }
  touch(device_cells(address), n, {make_stamp(by, 0, 0, 0), 0, write, false, false, what});
  return true;
}

OpenArena::OpenArena() {
  if (open_depth++ == 0) protect(PROT_READ | PROT_WRITE);
}

OpenArena::~OpenArena() {
  if (--open_depth == 0) protect(PROT_NONE);
}

void settle_arena() {
  for (Allocation& a : allocations) {
    if (a.freed_by) {
      a.freed_by = kPast;
    } else {
      a.allocated_by = kPast;
      settle(device_cells(a.address), a.bytes);
    }
  }
}

void* allocate_pinned(size_t bytes) {
  void* p = std::aligned_alloc(4096, (bytes + 4096) / 4096 * 4096);
  if (!p) return nullptr;
  std::memset(p, 0xff, bytes);
  pinned[reinterpret_cast<uintptr_t>(p)] = bytes;
  return p;
}

bool free_pinned(void* p) {
  if (!pinned.erase(reinterpret_cast<uintptr_t>(p))) return false;
  std::free(p);
  return true;
}

bool in_pinned(const void* p, size_t bytes) {
  auto next = pinned.upper_bound(reinterpret_cast<uintptr_t>(p));
  if (next == pinned.begin()) return false;
  --next;
  return reinterpret_cast<uintptr_t>(p) + bytes <= next->first + next->second;
}

size_t live_allocations() {
  size_t live = pinned.size();
  for (size_t i = 1; i < allocations.size(); ++i) live += allocations[i].freed_by == 0;
  return live;
}

}  // namespace twin
