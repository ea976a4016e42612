#include "tests/twin/emulator.h"

#include "tests/twin/access.h"
#include "tests/twin/address_space.h"
#include "tests/twin/arena.h"
#include "tests/twin/fiber.h"
#include "tests/twin/order.h"
#include "tests/twin/report.h"
#include "tests/twin/shadow.h"
#include "tests/twin/stream.h"
#include "tests/twin/thread_block.h"

namespace twin {

namespace {
Config current;
}

const Config& config() { return current; }

void initialise() {
  static const bool once = [] {
    map_arena();
    reserve(kSharedBase, kSharedBytes);
    map_shadow();
    map_stacks();
    seed_choices(current.seed);
    return true;
  }();
  (void)once;
}

void start(const Config& c) {
  initialise();
  settle_streams();
  current = c;
  seed_choices(c.seed);
  forget_reports();
}

Statistics statistics() { return {launches_so_far(), threads_so_far(), switches_so_far(), accesses_so_far()}; }

}  // namespace twin
