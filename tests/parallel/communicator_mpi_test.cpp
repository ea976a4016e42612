#include "parallel/communicator.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

namespace deepflow {
namespace {

template <class T>
Tensor make(const std::vector<T>& values) {
  const auto memory = std::make_shared<std::vector<T>>(values);
  memory->reserve(1);
  return Tensor::wrap(memory->data(), {static_cast<int64_t>(values.size())}, DTypeOf<T>::value, {}, memory);
}

template <class T>
std::vector<T> values_of(const Tensor& t) {
  const T* data = static_cast<const T*>(t.raw());
  return {data, data + t.num_elements()};
}

// What member `rank` contributes: values whose sum depends on the order of additions.
std::vector<float> contribution(int rank, int64_t n, uint32_t seed = 1) {
  std::mt19937 random(seed * 1000 + static_cast<uint32_t>(rank));
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-12, 12);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = std::ldexp(mantissa(random), exponent(random));
  return values;
}

std::vector<float> sum_in_order(int size, int64_t n, uint32_t seed = 1) {
  std::vector<float> sum = contribution(0, n, seed);
  for (int r = 1; r < size; ++r) {
    const std::vector<float> x = contribution(r, n, seed);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
  }
  return sum;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

std::vector<int64_t> random_counts(std::mt19937& random, int size, int64_t most) {
  std::vector<int64_t> counts(static_cast<size_t>(size));
  for (int64_t& c : counts) c = random() % 4 == 0 ? 0 : static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  return counts;
}

class CommunicatorTest : public testing::Test {
 protected:
  Communicator& comm = test_world().all();
  const int rank = comm.rank(), size = comm.size();
};

TEST_F(CommunicatorTest, SumsInRankOrder) {
  for (const int64_t asked : {0, 1, 2, 15, 17, 1000, 4097, 70'001, 1'500'001}) {
    const int64_t n = test_size(asked);
    const Tensor t = make(contribution(rank, n));
    comm.all_reduce(t, ReduceOp::kSum, "sum")->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(t), sum_in_order(size, n))) << n;
  }
}

TEST_F(CommunicatorTest, SumsBf16InF32) {
  for (const int64_t n : {int64_t{1}, int64_t{33}, int64_t{5000}, test_size(300'001)}) {
    std::vector<BF16> mine, expected;
    for (const float x : contribution(rank, n)) mine.push_back(to_bf16(x));
    std::vector<float> sum(static_cast<size_t>(n));
    for (int r = 0; r < size; ++r) {
      const std::vector<float> x = contribution(r, n);
      for (size_t i = 0; i < sum.size(); ++i)
        sum[i] = r == 0 ? to_float(to_bf16(x[i])) : sum[i] + to_float(to_bf16(x[i]));
    }
    for (const float x : sum) expected.push_back(to_bf16(x));
    const Tensor t = make(mine);
    comm.all_reduce(t, ReduceOp::kSum, "bf16")->wait_host();
    EXPECT_TRUE(same_bits(values_of<BF16>(t), expected)) << n;
  }
}

TEST_F(CommunicatorTest, TakesMaximaAndIntegers) {
  const Tensor f = make(std::vector<float>{static_cast<float>(rank), static_cast<float>(-rank), 7});
  const Tensor i = make(std::vector<int64_t>{rank, int64_t{1} << 40, -1});
  const Tensor j = make(std::vector<int32_t>{rank, -rank});
  const WorkPtr a = comm.all_reduce(f, ReduceOp::kMax, "max f32"), b = comm.all_reduce(i, ReduceOp::kSum, "sum i64"),
                c = comm.all_reduce(j, ReduceOp::kMax, "max i32");
  c->wait_host();
  b->wait_host();
  a->wait_host();
  const int64_t ranks = int64_t{size} * (size - 1) / 2;
  EXPECT_EQ(values_of<float>(f), (std::vector<float>{static_cast<float>(size - 1), 0, 7}));
  EXPECT_EQ(values_of<int64_t>(i), (std::vector<int64_t>{ranks, size * (int64_t{1} << 40), -size}));
  EXPECT_EQ(values_of<int32_t>(j), (std::vector<int32_t>{size - 1, 0}));
}

TEST_F(CommunicatorTest, MaximumKeepsNan) {
  const Tensor t = make(std::vector<float>{rank == size - 1 ? NAN : 1.0f, rank == 0 ? NAN : 2.0f});
  comm.all_reduce(t, ReduceOp::kMax, "nan")->wait_host();
  for (const float x : values_of<float>(t)) EXPECT_TRUE(std::isnan(x));
}

TEST_F(CommunicatorTest, ReduceScatterGivesEachItsPart) {
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    const std::vector<int64_t> counts = random_counts(random, size, round < 8 ? 900 : test_size(400'000));
    const int64_t n = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
    const Tensor in = make(contribution(rank, n));
    const bool in_place = round % 2 == 0;
    const auto mine = counts[static_cast<size_t>(rank)];
    const Tensor out =
        in_place && n > 0 ? in.flat_range(begin, begin + mine) : make(std::vector<float>(static_cast<size_t>(mine)));
    comm.reduce_scatter(in, out, counts, "scatter")->wait_host();
    const std::vector<float> all = sum_in_order(size, n);
    EXPECT_TRUE(same_bits(values_of<float>(out), std::vector<float>(all.begin() + begin, all.begin() + begin + mine)));
  }
}

TEST_F(CommunicatorTest, AllGatherPutsPartsInRankOrder) {
  std::mt19937 random(8);
  for (int round = 0; round < 12; ++round) {
    const std::vector<int64_t> counts = random_counts(random, size, round < 8 ? 900 : test_size(3'000'000));
    std::vector<float> expected;
    for (int r = 0; r < size; ++r)
      for (const float x : contribution(r, counts[static_cast<size_t>(r)])) expected.push_back(x);
    const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
    const auto mine = counts[static_cast<size_t>(rank)];
    const Tensor out = make(std::vector<float>(expected.size()));
    const std::vector<float> own = contribution(rank, mine);
    Tensor in = make(own);
    if (round % 2 == 0 && !expected.empty()) {
      in = out.flat_range(begin, begin + mine);
      std::copy(own.begin(), own.end(), static_cast<float*>(in.raw()));
    }
    comm.all_gather(in, out, counts, "gather")->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(out), expected)) << round;
  }
}

TEST_F(CommunicatorTest, AllToAllDeliversEveryBlock) {
  for (int round = 0; round < 10; ++round) {
    std::mt19937 random(static_cast<uint32_t>(round));
    std::vector<std::vector<int64_t>> counts;  // [from][to]
    for (int r = 0; r < size; ++r)
      counts.push_back(random_counts(random, size, round < 7 ? 300 : test_size(1'100'000)));
    std::vector<int32_t> sent, expected;
    std::vector<int64_t> recv;
    const auto me = static_cast<size_t>(rank);
    for (size_t r = 0; r < counts.size(); ++r) {
      recv.push_back(counts[r][me]);
      for (int64_t i = 0; i < counts[me][r]; ++i)
        sent.push_back(static_cast<int32_t>(me * 100 + r + 1000 * static_cast<size_t>(i % 997)));
      for (int64_t i = 0; i < counts[r][me]; ++i)
        expected.push_back(static_cast<int32_t>(r * 100 + me + 1000 * static_cast<size_t>(i % 997)));
    }
    const Tensor in = make(sent), out = make(std::vector<int32_t>(expected.size()));
    comm.all_to_all(in, counts[me], out, recv, "exchange")->wait_host();
    EXPECT_EQ(values_of<int32_t>(out), expected);
  }
}

TEST_F(CommunicatorTest, BatchDoesNotDependOnTheOrderOfItsMessages) {
  for (const int64_t n : {int64_t{1}, int64_t{700}, test_size(2'000'000)}) {
    const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    const Tensor out = make(contribution(rank, n)), out2 = make(contribution(rank, n, 2));
    const Tensor in = make(std::vector<float>(static_cast<size_t>(n))),
                 in2 = make(std::vector<float>(static_cast<size_t>(n)));
    std::vector<PointToPoint> messages = {
        {next, true, out}, {next, true, out2}, {previous, false, in}, {previous, false, in2}};
    if (rank % 2 == 1) std::rotate(messages.begin(), messages.begin() + 2, messages.end());
    comm.batch(messages, "ring")->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(in), contribution(previous, n)));
    EXPECT_TRUE(same_bits(values_of<float>(in2), contribution(previous, n, 2)));
  }
}

TEST_F(CommunicatorTest, BatchesOfAPairLeaveTheOthersCollectivesAlone) {
  if (size < 2) GTEST_SKIP();
  const Tensor t = make(contribution(rank, 5000)), token = make(std::vector<float>{static_cast<float>(rank)});
  for (int i = 0; i < 5 && rank < 2; ++i)
    comm.batch(std::vector<PointToPoint>{{1 - rank, rank == 0, token}}, "pair")->wait_host();
  comm.all_reduce(t, ReduceOp::kSum, "all")->wait_host();
  EXPECT_TRUE(same_bits(values_of<float>(t), sum_in_order(size, 5000)));
  if (rank < 2) {
    EXPECT_EQ(*token.data<float>(), 0);
  }
}

TEST_F(CommunicatorTest, BroadcastReachesAll) {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{9999}, test_size(1'000'003)})
    for (int root = 0; root < size; ++root) {
      const Tensor t = make(contribution(rank, n));
      comm.broadcast(t, root, "broadcast")->wait_host();
      EXPECT_TRUE(same_bits(values_of<float>(t), contribution(root, n))) << n << " from " << root;
    }
}

TEST_F(CommunicatorTest, ManyInFlightKeepTheirOrder) {
  std::vector<Tensor> tensors;
  std::vector<WorkPtr> works;
  std::vector<int64_t> sizes;
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    sizes.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(i % 10 == 0 ? test_size(60'000) : 900)));
    tensors.push_back(make(contribution(rank, sizes.back(), static_cast<uint32_t>(i))));
    works.push_back(comm.all_reduce(tensors.back(), ReduceOp::kSum, "many"));
  }
  for (size_t i = 0; i < works.size(); ++i) {
    works[i]->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(tensors[i]), sum_in_order(size, sizes[i], static_cast<uint32_t>(i)))) << i;
  }
}

TEST_F(CommunicatorTest, TwoCommunicatorsInOppositeOrder) {
  const auto a = comm.duplicate("first"), b = comm.duplicate("second");
  for (int round = 0; round < 20; ++round) {
    const int64_t n = round % 2 ? test_size(300'000) : 100;
    const Tensor x = make(contribution(rank, n, 1)), y = make(contribution(rank, n, 2));
    const auto use_a = [&] { a->all_reduce(x, ReduceOp::kSum, "a")->wait_host(); };
    const auto use_b = [&] { b->all_reduce(y, ReduceOp::kSum, "b")->wait_host(); };
    WorkPtr first, second;
    if (rank % 2) {  // enqueued before either is waited for: the waits alone would be a deadlock of the caller's
      first = a->all_reduce(x, ReduceOp::kSum, "a");
      second = b->all_reduce(y, ReduceOp::kSum, "b");
    } else {
      second = b->all_reduce(y, ReduceOp::kSum, "b");
      first = a->all_reduce(x, ReduceOp::kSum, "a");
    }
    (rank % 2 ? first : second)->wait_host();
    (rank % 2 ? second : first)->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(x), sum_in_order(size, n, 1)));
    EXPECT_TRUE(same_bits(values_of<float>(y), sum_in_order(size, n, 2)));
    use_a();
    use_b();
  }
}

TEST_F(CommunicatorTest, RandomOrdersOfManyCommunicators) {
  std::vector<std::unique_ptr<Communicator>> comms;
  for (int i = 0; i < 4; ++i) comms.push_back(comm.duplicate("random"));
  std::mt19937 random(static_cast<uint32_t>(rank) + 99);  // another order on every rank
  std::vector<int> order;
  for (int i = 0; i < 80; ++i) order.push_back(i % 4);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<std::tuple<Tensor, WorkPtr, int64_t, uint32_t>> runs;
  std::vector<uint32_t> calls(4);
  for (const int c : order) {
    const uint32_t seed = static_cast<uint32_t>(c) * 100 + calls[static_cast<size_t>(c)]++;
    const int64_t n = seed % 7 == 0 ? test_size(50'000) : seed;
    const Tensor t = make(contribution(rank, n, seed));
    runs.emplace_back(t, comms[static_cast<size_t>(c)]->all_reduce(t, ReduceOp::kSum, "random"), n, seed);
  }
  std::shuffle(runs.begin(), runs.end(), random);
  for (const auto& [tensor, work, n, seed] : runs) {
    work->wait_host();
    EXPECT_TRUE(same_bits(values_of<float>(tensor), sum_in_order(size, n, seed)));
  }
}

TEST_F(CommunicatorTest, SplitRanksByKey) {
  const auto half = comm.split(rank % 2, -rank, "half");
  EXPECT_EQ(half->size(), (size + 1 - rank % 2) / 2);
  const std::vector<int64_t> mine = {rank};
  const std::vector<std::string> members = gather_texts(*half, std::to_string(rank), "members");
  for (int i = 0; i < half->size(); ++i)  // the largest rank of this parity comes first
    EXPECT_EQ(members[static_cast<size_t>(i)], std::to_string((rank % 2) + 2 * (half->size() - 1 - i)));
  const int64_t sum = sum_integers(*half, mine, "sum")[0];
  int64_t expected = 0;
  for (int r = rank % 2; r < size; r += 2) expected += r;
  EXPECT_EQ(sum, expected);
}

TEST_F(CommunicatorTest, SplitWhileOthersWaitElsewhere) {
  const auto other = comm.duplicate("other");
  const Tensor t = make(contribution(rank, test_size(400'000)));
  const WorkPtr work = other->all_reduce(t, ReduceOp::kSum, "in flight");
  const auto third = comm.duplicate("third");
  third->barrier("third")->wait_host();
  work->wait_host();
  EXPECT_TRUE(same_bits(values_of<float>(t), sum_in_order(size, test_size(400'000))));
}

TEST_F(CommunicatorTest, HostValues) {
  const std::vector<double> mine = {1.0 / (rank + 3), 1e300 * (rank == 0), static_cast<double>(rank)};
  double expected = 1.0 / 3;
  for (int r = 1; r < size; ++r) expected += 1.0 / (r + 3);
  EXPECT_EQ(sum_doubles(comm, mine, "metrics")[0], expected);
  EXPECT_EQ(max_doubles(comm, mine, "metrics"), (std::vector<double>{1.0 / 3, 1e300, size - 1.0}));
  EXPECT_TRUE(sum_doubles(comm, {}, "none").empty());
  EXPECT_EQ(broadcast_text(comm, "from " + std::to_string(rank), size - 1, "text"), "from " + std::to_string(size - 1));
  EXPECT_EQ(broadcast_text(comm, rank == 0 ? "" : "x", 0, "empty"), "");
  const auto texts = gather_texts(comm, std::string(static_cast<size_t>(rank), 'x'), "texts");
  for (int r = 0; r < size; ++r) EXPECT_EQ(texts[static_cast<size_t>(r)].size(), static_cast<size_t>(r));
}

TEST_F(CommunicatorTest, BarrierHoldsUntilTheLastArrives) {
  const double begin = Trace::now_us();
  if (rank == size - 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  comm.barrier("late")->wait_host();
  EXPECT_GE(Trace::now_us() - begin, size > 1 ? 25e3 : 0);
}

TEST_F(CommunicatorTest, CountsTheBytesOfAnAllReduce) {
  if (size == 1) GTEST_SKIP();
  const auto own = comm.duplicate("counted");
  const int64_t n = 16 * 1024 * size;
  own->all_reduce(make(contribution(rank, n)), ReduceOp::kSum, "volume")->wait_host();
  const std::vector<int64_t> mine = {own->bytes().sent, own->bytes().received};
  const std::vector<int64_t> all = sum_integers(comm, mine, "bytes");
  const int64_t least = 2 * (size - 1) * n * 4;              // Patarasuk and Yuan 2009, over all ranks
  const int64_t headers = int64_t{size} * (size - 1) * 128;  // when calls are compared
  EXPECT_GE(all[0], least);
  EXPECT_LE(all[0], least + headers);
  EXPECT_EQ(all[0], all[1]);
}

TEST_F(CommunicatorTest, KeepsTensorsAliveUntilWaitedFor) {
  const auto memory = std::make_shared<std::vector<float>>(contribution(rank, 1000));
  const std::weak_ptr<void> alive = memory;
  WorkPtr work;
  {
    const Tensor t = Tensor::wrap(memory->data(), {1000}, DType::kF32, {}, memory);
    work = comm.all_reduce(t, ReduceOp::kSum, "alive");
  }
  if (size > 1) {
    EXPECT_GT(memory.use_count(), 1);
  }
  work->wait_host();
  work.reset();
  comm.barrier("behind it")->wait_host();
  EXPECT_EQ(memory.use_count(), 1);
}

TEST_F(CommunicatorTest, SpansShowFlightAndWaiting) {
  if (size == 1) GTEST_SKIP();
  Trace trace;
  trace.set_enabled(true);
  test_world().record_spans(&trace);
  if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  comm.all_reduce(make(contribution(rank, 1000)), ReduceOp::kSum, "traced")->wait_host();
  test_world().record_spans(nullptr);
  const auto spans = trace.take();
  const auto count = [&](SpanKind kind) {
    return std::count_if(spans.begin(), spans.end(),
                         [&](const auto& s) { return s.kind == kind && s.name == "traced" && s.end_us >= s.begin_us; });
  };
  EXPECT_EQ(count(SpanKind::kCommunication), 1);
  if (rank != 0) {
    EXPECT_EQ(count(SpanKind::kWaiting), 1);
  }
}

}  // namespace
}  // namespace deepflow
