#include "tests/twin/shadow.h"

#include "tests/twin/address_space.h"
#include "tests/twin/emulator.h"
#include "tests/twin/order.h"
#include "tests/twin/report.h"

#include <gtest/gtest.h>

// The rules of order, one cell at a time. Operation numbers beyond the past are made up as one stream's: ordered.
namespace {

using twin::Kind;

class Shadow : public testing::Test {
 protected:
  Shadow() {
    twin::start({});
    first_ = twin::add_operation(0, 1, {1});
    later_ = twin::add_operation(0, 2, {2});
    elsewhere_ = twin::add_operation(1, 1, {0, 1});  // knows nothing of stream 0
  }
  ~Shadow() override { twin::start({}); }

  struct Who {
    unsigned block = 0, clock = 0, thread = 0, barrier_clock = 0;
    unsigned operation = 0;  // 0: the first
    bool shared = false;
  };
  void use(const Who& w, bool write, bool atomic = false) {
    const auto stamp = twin::make_stamp(w.operation ? w.operation : first_, w.block, w.clock, w.thread);
    twin::touch(&cell_, 1, {stamp, w.barrier_clock, write, atomic, w.shared, nullptr});
  }
  void read(const Who& w) { use(w, false); }
  void write(const Who& w) { use(w, true); }
  void atomic(const Who& w) { use(w, true, true); }
  bool race() const { return twin::found(Kind::kRace); }

  twin::Cell cell_;
  unsigned first_, later_, elsewhere_;
};

TEST_F(Shadow, ReadOfWhatNobodyWroteIsFound) {
  read({});
  EXPECT_TRUE(twin::found(Kind::kUninitialised));
}

TEST_F(Shadow, OneThreadIsOrdered) {
  write({.thread = 3});
  read({.thread = 3});
  write({.thread = 3});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, LanesOfOneWarpAreNotOrdered) {
  write({.thread = 3});
  read({.thread = 4});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, SyncWarpOrdersItsWarp) {
  write({.thread = 3});
  read({.clock = 1, .thread = 4});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, SyncWarpDoesNotOrderAnotherWarp) {
  write({.thread = 3});
  read({.clock = 1, .thread = 40});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, BarrierOrdersTheBlock) {
  write({.clock = 1, .thread = 3, .barrier_clock = 1});
  read({.clock = 2, .thread = 40, .barrier_clock = 2});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, BarrierDoesNotOrderAnotherBlock) {
  write({.block = 1, .clock = 1, .thread = 3, .barrier_clock = 1});
  read({.block = 2, .clock = 2, .thread = 3, .barrier_clock = 2});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, WriterThatReadLastMustWaitForOtherLanes) {
  write({.thread = 4});
  read({.clock = 1, .thread = 3});
  read({.clock = 1, .thread = 4});
  write({.clock = 1, .thread = 4});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, SyncWarpOrdersAWriterBehindReadingLanes) {
  write({.thread = 4});
  read({.clock = 1, .thread = 3});
  read({.clock = 1, .thread = 4});
  write({.clock = 2, .thread = 4});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, WriterThatReadLastMustWaitForOtherWarps) {
  write({.clock = 1, .thread = 4, .barrier_clock = 1});
  read({.clock = 2, .thread = 40, .barrier_clock = 2});
  read({.clock = 2, .thread = 4, .barrier_clock = 2});
  write({.clock = 3, .thread = 4, .barrier_clock = 2});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, BarrierOrdersAWriterBehindReadingWarps) {
  write({.clock = 1, .thread = 4, .barrier_clock = 1});
  read({.clock = 2, .thread = 40, .barrier_clock = 2});
  read({.clock = 2, .thread = 4, .barrier_clock = 2});
  write({.clock = 3, .thread = 4, .barrier_clock = 3});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, WriterThatReadLastMustWaitForOtherBlocks) {
  write({});
  read({.block = 1, .operation = later_});
  read({.block = 2, .operation = later_});
  EXPECT_FALSE(race());
  write({.block = 2, .clock = 1, .barrier_clock = 1, .operation = later_});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, AtomicsOfOneOperationAreOrderedAmongThemselves) {
  write({});
  for (unsigned block : {1u, 2u, 1u}) atomic({.block = block, .operation = later_});
  EXPECT_FALSE(race());
}

TEST_F(Shadow, AtomicOfOneThreadDoesNotOrderThoseBefore) {
  write({});
  atomic({.thread = 3, .operation = later_});
  atomic({.thread = 4, .operation = later_});
  read({.thread = 4, .operation = later_});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, AtomicsOfUnorderedOperationsAreARace) {
  write({.operation = twin::kPast});
  atomic({});
  atomic({.operation = elsewhere_});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, StreamsAreOrderedByTheirClocksOnly) {
  write({});
  read({.operation = later_});
  EXPECT_FALSE(race());
  read({.operation = elsewhere_});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, ReaderOfAnotherStreamIsNotForgotten) {
  write({.operation = twin::kPast});
  read({.operation = elsewhere_});
  read({});
  EXPECT_FALSE(race());
  write({.operation = later_});
  EXPECT_TRUE(race());
}

TEST_F(Shadow, SharedMemoryOfTheBlockBeforeIsUnwritten) {
  write({.block = 1, .shared = true});
  read({.block = 2, .shared = true});
  EXPECT_TRUE(twin::found(Kind::kUninitialised));
  EXPECT_FALSE(race());
}

TEST_F(Shadow, EveryCellOfARunIsChecked) {
  twin::Cell cells[4];
  const auto access = [&](unsigned thread, bool write) {
    return twin::Access{twin::make_stamp(first_, 0, 0, thread), 0, write, false, false, nullptr};
  };
  twin::touch(cells, 4, access(3, true));
  twin::touch(cells + 2, 1, access(3, true));
  twin::touch(cells, 2, access(3, false));
  EXPECT_FALSE(race());
  twin::touch(cells + 3, 1, access(9, true));
  EXPECT_TRUE(race());
  twin::forget_reports();
  twin::check_last_use(cells, 4, {twin::make_stamp(later_, 0, 0, 0), 0, true, false, false, nullptr});
  EXPECT_FALSE(race());
  twin::check_last_use(cells, 4, {twin::make_stamp(elsewhere_, 0, 0, 0), 0, true, false, false, nullptr});
  EXPECT_TRUE(race());
}

}  // namespace
