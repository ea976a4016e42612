#include "tests/twin/thread_block.h"

#include "tests/twin/arena.h"
#include "tests/twin/emulator.h"
#include "tests/twin/fiber.h"
#include "tests/twin/order.h"
#include "tests/twin/shared_memory.h"
#include "tests/twin/warp.h"

#include <algorithm>
#include <map>
#include <vector>

// The built-in variables: const for the kernels, written here.
uint3 twin_thread_index asm("threadIdx");
uint3 twin_block_index asm("blockIdx");
uint3 twin_block_dim asm("blockDim");
uint3 twin_grid_dim asm("gridDim");

namespace twin {

Thread* running = nullptr;
unsigned barrier_clock = 0;

namespace {

Thread threads[kMaxThreads];
std::vector<unsigned> ready;  // the next to run is taken from the back, or drawn
unsigned num_threads, num_live, num_at_barrier;
unsigned warp_clock[kMaxThreads / kWarpSize], lanes_waiting[kMaxThreads / kWarpSize];
void* scheduler_stack;
bool stopped;
const Grid* grid;
Site site;
uint64_t switches, threads_run, launches;

void leave() { twin_switch_fiber(&running->stack, scheduler_stack); }

[[noreturn]] void thread_main() {
  grid->call->run();
  running->state = State::kDone;
  leave();
  __builtin_unreachable();
}

void stamp(Thread& t) { t.stamp = make_stamp(grid->operation, site.block, warp_clock[t.number / kWarpSize], t.number); }

// Ready threads are kept so that the back is next in the order that is asked for.
void make_ready(unsigned first, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const unsigned number = first + (config().order == Order::kAscending ? count - 1 - i : i);
    threads[number].state = State::kReady;
    stamp(threads[number]);
    ready.push_back(number);
  }
}

Thread& next_thread() {
  if (config().order == Order::kRandom) std::swap(ready[random_below(ready.size())], ready.back());
  Thread& t = threads[ready.back()];
  ready.pop_back();
  return t;
}

bool advance_clock(unsigned value) {
  if (value <= kMaxClock) return true;
  report(Kind::kLimit, "more than 65,535 barriers and sync_warps in one block");
  return false;
}

void finish_warp(unsigned warp) {
  Thread* lanes = threads + warp * kWarpSize;
  if (!complete_warp_operation(lanes)) {
    stopped = true;
    return;
  }
  if (lanes->call->operation == WarpOperation::kSync && !advance_clock(++warp_clock[warp])) stopped = true;
  lanes_waiting[warp] = 0;
  make_ready(warp * kWarpSize, kWarpSize);
}

void run_next_thread() {
  Thread& t = next_thread();
  running = &t;
  twin_thread_index = t.index;
  site.thread = t.number;
  current_site = &site;
  ++switches;
  twin_switch_fiber(&scheduler_stack, t.stack);
  running = nullptr;
  if (stopped) return;
  if (t.state == State::kDone) {
    --num_live;
  } else if (t.state == State::kAtBarrier) {
    ++num_at_barrier;
  } else if (++lanes_waiting[t.number / kWarpSize] == kWarpSize) {
    finish_warp(t.number / kWarpSize);
  }
}

std::string place_of(const Thread& t) {
  return std::string(t.place.file_name()) + ":" + std::to_string(t.place.line());
}

void release_barrier() {
  for (unsigned i = 1; i < num_threads; ++i) {
    if (threads[i].place.line() == threads[0].place.line()) continue;
    report(Kind::kBarrier,
           "threads stand at different barriers: " + place_of(threads[0]) + " and " + place_of(threads[i]));
    stopped = true;
    return;
  }
  barrier_clock = *std::max_element(warp_clock, warp_clock + num_threads / kWarpSize) + 1;
  if (!advance_clock(barrier_clock)) stopped = true;
  std::fill_n(warp_clock, num_threads / kWarpSize, barrier_clock);
  num_at_barrier = 0;
  make_ready(0, num_threads);
}

void report_deadlock() {
  std::map<std::string, int> waiting;
  for (unsigned i = 0; i < num_threads; ++i) {
    const Thread& t = threads[i];
    if (t.state == State::kDone) {
      ++waiting["have returned"];
    } else if (t.state == State::kAtBarrier) {
      ++waiting["wait at the barrier " + place_of(t)];
    } else {
      ++waiting[std::string("wait in ") + operation_name(t.call->operation) + " " + place_of(t)];
    }
  }
  std::string text;
  for (const auto& [what, count] : waiting)
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " threads " + what;
  report(Kind::kDeadlock, text);
}

void run_block() {
  start_shared(grid->dynamic_shared, grid->allowed_shared);
  barrier_clock = 0;
  num_live = num_threads;
  num_at_barrier = 0;
  threads_run += num_threads;
  ready.clear();
  std::fill(std::begin(warp_clock), std::end(warp_clock), 0);
  std::fill(std::begin(lanes_waiting), std::end(lanes_waiting), 0);
  for (unsigned i = 0; i < num_threads; ++i) threads[i].stack = fresh_stack(i, thread_main);
  make_ready(0, num_threads);
  while (num_live > 0 && !stopped) {
    if (!ready.empty()) {
      run_next_thread();
    } else if (num_at_barrier == num_threads) {
      release_barrier();
    } else {
      report_deadlock();
      stopped = true;
    }
  }
  current_site = nullptr;
}

std::vector<unsigned> block_order(unsigned num_blocks) {
  std::vector<unsigned> blocks(num_blocks);
  for (unsigned i = 0; i < num_blocks; ++i) blocks[i] = config().order == Order::kDescending ? num_blocks - 1 - i : i;
  if (config().order == Order::kRandom) {
    for (unsigned i = num_blocks; i > 1; --i) std::swap(blocks[i - 1], blocks[random_below(i)]);
  }
  return blocks;
}

uint3 coordinates(unsigned i, dim3 extent) { return {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y}; }

}  // namespace

void run_grid(const Grid& g) {
  const OpenArena open;
  grid = &g;
  stopped = false;
  ++launches;
  site.kernel = g.kernel;
  num_threads = g.threads.x * g.threads.y * g.threads.z;
  twin_block_dim = {g.threads.x, g.threads.y, g.threads.z};
  twin_grid_dim = {g.blocks.x, g.blocks.y, g.blocks.z};
  for (unsigned i = 0; i < num_threads; ++i) {
    threads[i].number = i;
    threads[i].index = coordinates(i, g.threads);
  }
  for (unsigned block : block_order(g.blocks.x * g.blocks.y * g.blocks.z)) {
    site.block = block;
    twin_block_index = coordinates(block, g.blocks);
    run_block();
    if (stopped) break;
  }
}

void stop_grid(Kind kind, const std::string& text, const void* code) {
  report(kind, text, code);
  stopped = true;
  leave();
  __builtin_unreachable();
}

void wait_at_barrier(const Place& place) {
  running->place = place;
  running->state = State::kAtBarrier;
  leave();
}

void wait_in_warp(WarpCall& call) {
  running->place = call.place;
  running->call = &call;
  running->state = State::kInWarp;
  leave();
}

bool in_parameters(uintptr_t address, size_t n) {
  const auto begin = reinterpret_cast<uintptr_t>(grid->call);
  return address >= begin && address + n <= begin + grid->call->bytes;
}

uint64_t switches_so_far() { return switches; }
uint64_t threads_so_far() { return threads_run; }
uint64_t launches_so_far() { return launches; }

}  // namespace twin
