#include "tests/twin/shadow.h"

#include "tests/twin/address_space.h"
#include "tests/twin/order.h"
#include "tests/twin/report.h"

#include <string>
#include <unordered_map>
#include <vector>

namespace twin {

namespace {

constexpr Stamp kFlag = 1;
constexpr unsigned kWarpOf = 1024;        // thread field: kWarpOf + w is several lanes of warp w
constexpr unsigned kSeveralWarps = 2047;  // thread field: threads of several warps
constexpr unsigned kSeveralBlocks = (1 << 20) - 1;

unsigned operation_of(Stamp s) { return static_cast<unsigned>(s >> 48); }
unsigned block_of(Stamp s) { return s >> 28 & 0xfffff; }
unsigned clock_of(Stamp s) { return s >> 12 & 0xffff; }
unsigned thread_of(Stamp s) { return s >> 1 & 0x7ff; }
bool same_block(Stamp a, Stamp b) { return (a ^ b) >> 28 == 0; }
unsigned warp_of(unsigned thread) { return thread >= kWarpOf ? thread - kWarpOf : thread / 32; }

Cell* device_shadow;
Cell* shared_shadow;
// Readers that the cell has no room for: their operations are not ordered against the reader in the cell.
std::unordered_map<const Cell*, std::vector<Stamp>> more_readers;

bool ordered(Stamp before, const Access& now) {
  if (operation_of(before) != operation_of(now.stamp))
    return happens_before(operation_of(before), operation_of(now.stamp));
  if (block_of(before) != block_of(now.stamp)) return false;
  if (clock_of(before) < now.barrier_clock) return true;
  const unsigned a = thread_of(before), b = thread_of(now.stamp);
  if (a == b) return true;
  if (a == kSeveralWarps || warp_of(a) != warp_of(b)) return false;
  return clock_of(before) < clock_of(now.stamp);
}

std::string who(Stamp s, const Access& now) {
  if (operation_of(s) != operation_of(now.stamp)) {
    return "no order with an operation of stream " + std::to_string(stream_of_operation(operation_of(s)));
  }
  if (block_of(s) == kSeveralBlocks) return "other blocks";
  const unsigned thread = thread_of(s);
  std::string text = "block " + std::to_string(block_of(s));
  if (thread == kSeveralWarps) return text + " several warps";
  if (thread >= kWarpOf) return text + " warp " + std::to_string(thread - kWarpOf);
  return text + " thread " + std::to_string(thread);
}

void check_order(const char* what, Stamp before, const Access& now) {
  if (!before || ordered(before, now)) return;
  report(Kind::kRace,
         std::string(what) + (now.shared ? " in shared memory, " : " in global memory, ") + who(before, now), now.code);
}

// The stamp that stands for `old` and `now`, both of one operation: what the next access is ordered against.
Stamp merge_same_operation(Stamp old, const Access& now) {
  if (block_of(old) != block_of(now.stamp)) return old | Stamp{kSeveralBlocks} << 28;
  const unsigned a = thread_of(old), b = thread_of(now.stamp);
  if (clock_of(old) < now.barrier_clock || a == b) return now.stamp;
  const Stamp without_thread = now.stamp & ~(Stamp{0x7ff} << 1);
  if (a == kSeveralWarps || warp_of(a) != warp_of(b)) return without_thread | Stamp{kSeveralWarps} << 1;
  if (clock_of(old) < clock_of(now.stamp)) return now.stamp;
  return without_thread | Stamp{kWarpOf + b / 32} << 1;
}

// The reader field after a read by `now`; what falls out of it is ordered before `now`, or kept in more_readers.
Stamp merge_reader(const Cell* cell, Stamp old, const Access& now) {
  if (!old) return now.stamp;
  const Stamp flag = old & kFlag;
  if (operation_of(old) == operation_of(now.stamp)) return merge_same_operation(old & ~kFlag, now) | flag;
  if (happens_before(operation_of(old), operation_of(now.stamp))) return now.stamp | flag;
  more_readers[cell].push_back(old & ~kFlag);
  return now.stamp | kFlag;
}

Cell advance(const Cell* place, Cell cell, const Access& now) {
  if (now.shared && !same_block(cell.writer, now.stamp)) cell.writer = 0;  // left by another block
  if (now.shared && !same_block(cell.reader, now.stamp)) cell.reader = 0;
  if ((!now.write || now.atomic) && !cell.writer) {
    report(Kind::kUninitialised,
           now.shared ? "read of shared memory that this block has not written"
                      : "read of device memory that nobody has written",
           now.code);
  }
  const bool both_atomic = now.atomic && (cell.writer & kFlag) && operation_of(cell.writer) == operation_of(now.stamp);
  if (!both_atomic) check_order(now.write ? "write after write" : "read after write", cell.writer, now);
  if (!now.write) return {cell.writer, merge_reader(place, cell.reader, now)};
  check_order("write after read", cell.reader & ~kFlag, now);
  if (cell.reader & kFlag) {
    for (Stamp reader : more_readers[place]) check_order("write after read", reader, now);
    more_readers.erase(place);
  }
  if (both_atomic) return {merge_same_operation(cell.writer, now) | kFlag, 0};
  return {now.stamp | (now.atomic ? kFlag : 0), 0};
}

bool equal(const Cell& a, const Cell& b) { return a.writer == b.writer && a.reader == b.reader; }

}  // namespace

void touch(Cell* cells, size_t n, const Access& access) {
  Cell seen, next;
  for (size_t i = 0; i < n; ++i) {
    const bool known = i > 0 && equal(cells[i], seen) && !((seen.reader | next.reader) & kFlag);
    if (!known) {
      seen = cells[i];
      next = advance(&cells[i], seen, access);
    }
    cells[i] = next;
  }
}

void check_last_use(const Cell* cells, size_t n, const Access& access) {
  Cell seen;
  for (size_t i = 0; i < n; ++i) {
    if (equal(cells[i], seen) && !(seen.reader & kFlag)) continue;
    seen = cells[i];
    advance(&cells[i], seen, access);
  }
}

void settle(Cell* cells, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (cells[i].writer) cells[i] = {make_stamp(kPast, 0, 0, 0), 0};
  }
  more_readers.clear();
}

Cell* device_cells(uintptr_t address) { return device_shadow + (address - kDeviceBase); }
Cell* shared_cells(uintptr_t address) { return shared_shadow + (address - kSharedBase); }

void map_shadow() {
  device_shadow = static_cast<Cell*>(reserve(0, kDeviceBytes * sizeof(Cell)));
  shared_shadow = static_cast<Cell*>(reserve(0, kSharedBytes * sizeof(Cell)));
}

void drop_device_cells(uintptr_t address, size_t n) {
  drop_pages(reinterpret_cast<uintptr_t>(device_cells(address)), n * sizeof(Cell));
}

void drop_shared_cells() { drop_pages(reinterpret_cast<uintptr_t>(shared_shadow), kSharedBytes * sizeof(Cell)); }

}  // namespace twin
