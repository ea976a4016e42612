#include "core/turns.h"

#include "core/error.h"
#include "core/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <string>
#include <thread>

namespace deepflow {
namespace {

// Says a letter, takes turns, and so on; the letters of both end up in `said` as they were spoken.
struct Speakers {
  Turns turns;
  std::string said;
  void speak(const std::string& letters) {
    for (const char c : letters) {
      said += c;
      turns.yield();
    }
  }
  std::string both(const std::string& first, const std::string& second) {
    said.clear();
    turns.run([&] { speak(first); }, [&] { speak(second); });
    return said;
  }
};

struct SaysWhenItGoes {
  std::string& said;
  ~SaysWhenItGoes() { said += '~'; }
};

TEST(Turns, AlternateUntilBothHaveEnded) {
  Speakers s;
  EXPECT_EQ(s.both("abc", "123"), "a1b2c3");
  EXPECT_EQ(s.both("a", "1234"), "a1234");
  EXPECT_EQ(s.both("abcd", "1"), "a1bcd");
  EXPECT_EQ(s.both("", "12"), "12");
  EXPECT_EQ(s.both("ab", ""), "ab");
}

TEST(Turns, NobodyElseIsThereOutside) {
  Turns turns;
  turns.yield();
  EXPECT_EQ(turns.num_yields(), 0);
  turns.run([&] { turns.yield(); }, [] {});
  EXPECT_EQ(turns.num_yields(), 1);
  turns.yield();
  EXPECT_EQ(turns.num_yields(), 1);
}

TEST(Turns, AFailureOfTheFirstUnwindsTheSecondWhereItIs) {
  Speakers s;
  const auto first = [&] {
    s.speak("ab");
    throw DataError("first");
  };
  const auto second = [&] {
    const SaysWhenItGoes last{s.said};
    s.speak("1234");
    s.said += "never";
  };
  EXPECT_THROW(s.turns.run(first, second), DataError);
  EXPECT_EQ(s.said, "a1b2~");
  EXPECT_EQ(s.both("ab", "12"), "a1b2");
}

TEST(Turns, AFailureBeforeTheSecondsFirstTurnLeavesItAlone) {
  Speakers s;
  EXPECT_THROW(s.turns.run([] { throw DataError("first"); }, [&] { s.speak("1"); }), DataError);
  EXPECT_EQ(s.said, "");
  EXPECT_EQ(s.both("ab", "12"), "a1b2");
}

TEST(Turns, AFailureOfTheSecondUnwindsTheFirst) {
  Speakers s;
  const auto first = [&] {
    const SaysWhenItGoes last{s.said};
    s.speak("abcd");
    s.said += "never";
  };
  const auto second = [&] {
    s.speak("1");
    throw DataError("second");
  };
  EXPECT_THROW(s.turns.run(first, second), DataError);
  EXPECT_EQ(s.said, "a1b~");
  EXPECT_EQ(s.both("ab", "12"), "a1b2");
}

TEST(Turns, AFailureBehindTheOthersEndArrives) {
  Speakers s;
  const auto fail = [&] {
    s.speak("123");
    throw DataError("late");
  };
  EXPECT_THROW(s.turns.run([&] { s.speak("a"); }, fail), DataError);
  EXPECT_THROW(s.turns.run(fail, [&] { s.speak("a"); }), DataError);
}

// Exceptions that are thrown and caught within a turn are nobody else's.
TEST(Turns, CatchTheirOwnExceptions) {
  Speakers s;
  const auto clumsy = [&](const char* letters) {
    for (const char* c = letters; *c; ++c) {
      std::string what;
      try {
        throw DataError("{}", *c);
      } catch (const DataError& e) {
        what = e.what();
      }
      s.speak(what);
    }
  };
  s.turns.run([&] { clumsy("ab"); }, [&] { clumsy("12"); });
  EXPECT_EQ(s.said, "a1b2");
}

int64_t deep(Turns& turns, int depth) {
  std::array<char, 1024> here;
  here.fill(static_cast<char>(depth));
  if (depth == 0) turns.yield();
  const int64_t below = depth > 0 ? deep(turns, depth - 1) : 0;
  return below + std::accumulate(here.begin(), here.end(), int64_t{0});
}

TEST(Turns, HaveStacksOfTheirOwn) {
  Turns turns;
  const int64_t expected = deep(turns, 3000);
  int64_t first = 0, second = 0;
  turns.run([&] { first = deep(turns, 3000); }, [&] { second = deep(turns, 3000); });
  EXPECT_EQ(first, expected);
  EXPECT_EQ(second, expected);
}

TEST(Turns, ComputeOnTheSameThreads) {
  Runtime runtime({.threads = 2});
  Turns& turns = runtime.slot<Turns>();
  std::array<std::array<std::thread::id, 2>, 2> ids;
  const auto look = [&](size_t strand) {
    for (int i = 0; i < 3; ++i) {
      runtime.pool().run([&](int t, int) { ids[strand][static_cast<size_t>(t)] = std::this_thread::get_id(); });
      turns.yield();
    }
  };
  turns.run([&] { look(0); }, [&] { look(1); });
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_NE(ids[0][0], ids[0][1]);
}

struct Waited final : Work {
  explicit Waited(std::string& text) : said(text) {}
  std::string& said;
  void wait(Stream&) override { wait_host(); }
  void wait_host() override { said += 'w'; }
};

TEST(Turns, WhoWaitsHandsOverFirst) {
  Speakers s;
  const WorkPtr work = waited_in_turns(s.turns, std::make_shared<Waited>(s.said));
  const std::unique_ptr<Stream> stream = make_cpu_stream();
  const auto first = [&] {
    work->wait(*stream);
    work->wait_host();
  };
  s.turns.run(first, [&] { s.speak("12"); });
  EXPECT_EQ(s.said, "1w2w");
  work->wait(*stream);
  EXPECT_EQ(s.said, "1w2ww");
}

}  // namespace
}  // namespace deepflow
