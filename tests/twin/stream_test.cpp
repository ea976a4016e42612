#include "tests/twin/mutants/streams.h"
#include "tests/twin/report.h"
#include "tests/twin/twin.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

// Host code around kernels: streams, events, copies, lifetimes, graphs; each sound, then with one fault.
namespace {

using mutants::add;
using mutants::scale;
using twin::Kind;

constexpr int kN = 500;
constexpr size_t kBytes = kN * sizeof(float);
constexpr int kSeeds = 20;

struct Bench {
  Bench() {
    for (cudaStream_t* s : {&a, &b, &c}) cudaStreamCreateWithFlags(s, cudaStreamNonBlocking);
    for (cudaEvent_t* e : {&event, &other_event}) cudaEventCreateWithFlags(e, cudaEventDisableTiming);
    cudaMallocHost(reinterpret_cast<void**>(&host_x), kBytes);
    cudaMallocHost(reinterpret_cast<void**>(&host_y), kBytes);
    x = allocate(kBytes, a);
    y = allocate(kBytes, a);
    for (int i = 0; i < kN; ++i) host_x[i] = host_y[i] = static_cast<float>(i + 1);
    cudaMemcpyAsync(x, host_x, kBytes, cudaMemcpyHostToDevice, a);
    cudaMemcpyAsync(y, host_y, kBytes, cudaMemcpyHostToDevice, a);
    cudaStreamSynchronize(a);
  }
  ~Bench() {
    for (cudaStream_t s : {a, b, c}) cudaStreamSynchronize(s);
    cudaFreeAsync(x, a);
    cudaFreeAsync(y, a);
    for (cudaStream_t s : {a, b, c}) cudaStreamDestroy(s);
    cudaFreeHost(host_x);
    cudaFreeHost(host_y);
    cudaEventDestroy(event);
    cudaEventDestroy(other_event);
  }
  Bench(const Bench&) = delete;

  static float* allocate(size_t bytes, cudaStream_t s) {
    void* p = nullptr;
    cudaMallocAsync(&p, bytes, s);
    return static_cast<float*>(p);
  }
  void order(cudaStream_t first, cudaStream_t then) {
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(then, event, 0);
  }
  void download(cudaStream_t s) { cudaMemcpyAsync(host_y, y, kBytes, cudaMemcpyDeviceToHost, s); }
  // y was multiplied by nothing and got x times each factor added.
  bool y_is(float factor) const {
    for (int i = 0; i < kN; ++i) {
      if (host_y[i] != static_cast<float>(i + 1) * factor) return false;
    }
    return true;
  }

  cudaStream_t a = nullptr, b = nullptr, c = nullptr;
  cudaEvent_t event = nullptr, other_event = nullptr;
  float *x = nullptr, *y = nullptr, *host_x = nullptr, *host_y = nullptr;
};

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += "\n  " + line;
  return text;
}

void expect_sound(const std::function<bool(Bench&)>& body) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    twin::start({seed});
    const size_t live = twin::live_allocations();
    {
      Bench bench;
      EXPECT_TRUE(body(bench)) << "seed " << seed;
    }
    const auto reports = twin::take_reports();
    EXPECT_TRUE(reports.empty()) << "seed " << seed << join(reports);
    twin::start({seed});
    EXPECT_EQ(twin::live_allocations(), live);
  }
}

void expect_found(Kind kind, const std::function<void(Bench&)>& body) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    twin::start({seed});
    {
      Bench bench;
      body(bench);
    }
    EXPECT_TRUE(twin::found(kind)) << "seed " << seed << ": no " << twin::kind_name(kind) << join(twin::take_reports());
  }
}

// How often out of kSeeds runs the host sees a wrong value.
int wrong_values(const std::function<bool(Bench&)>& body) {
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    twin::start({seed});
    Bench bench;
    wrong += !body(bench);
  }
  return wrong;
}

TEST(Streams, EventOrdersAKernelBehindOneOfAnotherStream) {
  expect_sound([](Bench& t) {
    scale(t.x, 3, kN, t.a);
    t.order(t.a, t.b);
    add(t.x, t.y, kN, t.b);
    t.download(t.b);
    cudaStreamSynchronize(t.b);
    return t.y_is(4);
  });
}

TEST(Streams, ReadersOfTwoStreamsNeedNoOrderAmongThemselves) {
  expect_sound([](Bench& t) {
    float* z = Bench::allocate(kBytes, t.b);
    cudaMemsetAsync(z, 0, kBytes, t.b);
    add(t.x, t.y, kN, t.a);
    add(t.x, z, kN, t.b);
    t.order(t.b, t.a);
    scale(t.x, 2, kN, t.a);
    t.download(t.a);
    cudaFreeAsync(z, t.b);
    cudaStreamSynchronize(t.a);
    return t.y_is(2);
  });
}

TEST(Streams, HostOrdersWhatItHasWaitedFor) {
  expect_sound([](Bench& t) {
    scale(t.x, 3, kN, t.a);
    cudaEventRecord(t.event, t.a);
    while (cudaEventQuery(t.event) == cudaErrorNotReady) {
    }
    add(t.x, t.y, kN, t.b);
    t.download(t.b);
    cudaEventRecord(t.other_event, t.b);
    cudaEventSynchronize(t.other_event);
    return t.y_is(4);
  });
}

TEST(Streams, OperationsBeyondTheStampsAreSettled) {
  twin::start({});
  Bench t;
  for (int i = 0; i < 33000; ++i) {
    cudaMemsetAsync(t.x, 0, sizeof(float), t.b);
    cudaMemsetAsync(t.x + 1, 0, sizeof(float), t.a);
  }
  add(t.x + 1, t.y + 1, kN - 1, t.a);
  cudaStreamSynchronize(t.a);
  EXPECT_TRUE(twin::take_reports().empty());
  add(t.x, t.y, kN, t.a);  // x[0] is still written by the other stream, in no order
  cudaStreamSynchronize(t.a);
  EXPECT_FALSE(twin::take_reports().empty());
}

TEST(StreamMutants, KernelOfAnotherStreamWithoutEvent) {
  expect_found(Kind::kRace, [](Bench& t) {
    scale(t.x, 3, kN, t.a);
    add(t.x, t.y, kN, t.b);
  });
}

TEST(StreamMutants, WriterOrderedBehindOnlyOneOfTwoReaders) {
  expect_found(Kind::kRace, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.b);
    cudaMemsetAsync(z, 0, kBytes, t.b);
    add(t.x, z, kN, t.b);
    add(t.x, t.y, kN, t.a);
    scale(t.x, 2, kN, t.a);
    cudaFreeAsync(z, t.b);
  });
}

TEST(StreamMutants, EventRecordedTooEarly) {
  expect_found(Kind::kRace, [](Bench& t) {
    t.order(t.a, t.b);
    scale(t.x, 3, kN, t.a);
    add(t.x, t.y, kN, t.b);
  });
}

TEST(StreamMutants, WaitForAnEventThatWasNeverRecorded) {
  expect_found(Kind::kApi, [](Bench& t) { cudaStreamWaitEvent(t.b, t.event, 0); });
}

TEST(StreamMutants, HostReadsWithoutSynchronizing) {
  EXPECT_EQ(wrong_values([](Bench& t) {
              scale(t.y, 3, kN, t.a);
              t.download(t.a);
              return t.y_is(3);
            }),
            kSeeds);
}

TEST(StreamMutants, HostOverwritesTheSourceOfACopyUnderWay) {
  EXPECT_EQ(wrong_values([](Bench& t) {
              cudaMemcpyAsync(t.y, t.host_x, kBytes, cudaMemcpyHostToDevice, t.a);
              std::fill_n(t.host_x, kN, 0.0f);
              t.download(t.a);
              cudaStreamSynchronize(t.a);
              return t.y_is(1);
            }),
            kSeeds);
}

TEST(StreamMutants, CopyFromPageableMemory) {
  expect_found(Kind::kApi, [](Bench& t) {
    static float pageable[kN];
    cudaMemcpyAsync(t.x, pageable, kBytes, cudaMemcpyHostToDevice, t.a);
  });
}

TEST(StreamMutants, PinnedMemoryFreedBeforeItsCopyRan) {
  expect_found(Kind::kApi, [](Bench& t) {
    void* p = nullptr;
    cudaMallocHost(&p, kBytes);
    cudaMemcpyAsync(p, t.x, kBytes, cudaMemcpyDeviceToHost, t.a);
    cudaFreeHost(p);
  });
}

TEST(StreamMutants, CopyPastTheEnd) {
  expect_found(Kind::kOutOfBounds,
               [](Bench& t) { cudaMemcpyAsync(t.x + 1, t.host_x, kBytes, cudaMemcpyHostToDevice, t.a); });
}

TEST(StreamMutants, CopyInTheWrongDirection) {
  expect_found(Kind::kApi, [](Bench& t) { cudaMemcpyAsync(t.x, t.host_x, kBytes, cudaMemcpyDeviceToHost, t.a); });
}

TEST(StreamMutants, CopyBetweenOverlappingRanges) {
  expect_found(Kind::kApi, [](Bench& t) { cudaMemcpyAsync(t.x + 1, t.x, kBytes - 4, cudaMemcpyDeviceToDevice, t.a); });
}

TEST(StreamMutants, DefaultStream) {
  expect_found(Kind::kApi, [](Bench& t) { scale(t.x, 2, kN, nullptr); });
}

TEST(StreamMutants, FreeOnOneStreamWhileAnotherUsesIt) {
  expect_found(Kind::kLifetime, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.a);
    cudaMemsetAsync(z, 0, kBytes, t.a);
    t.order(t.a, t.b);
    add(z, t.y, kN, t.b);
    cudaFreeAsync(z, t.a);
  });
}

TEST(StreamMutants, FreeAfterAReaderThatHasRunButIsNotOrdered) {
  expect_found(Kind::kRace, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.a);
    cudaMemsetAsync(z, 0, kBytes, t.a);
    t.order(t.a, t.b);
    add(z, t.y, kN, t.b);
    const uint64_t before = twin::statistics().launches;
    while (twin::statistics().launches == before) {  // until it has run, though nobody waited for it
      cudaMemsetAsync(t.x, 0, kBytes, t.c);
      cudaStreamSynchronize(t.c);
    }
    cudaFreeAsync(z, t.a);
  });
}

TEST(StreamMutants, UseAfterFree) {
  expect_found(Kind::kUseAfterFree, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.a);
    cudaFreeAsync(z, t.a);
    scale(z, 2, kN, t.a);
  });
}

TEST(StreamMutants, UseWithoutOrderBehindTheAllocation) {
  expect_found(Kind::kLifetime, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.a);
    cudaMemsetAsync(z, 0, kBytes, t.b);
    cudaStreamSynchronize(t.b);
    cudaFreeAsync(z, t.a);
  });
}

TEST(StreamMutants, FreedTwice) {
  expect_found(Kind::kApi, [](Bench& t) {
    float* z = Bench::allocate(kBytes, t.a);
    cudaFreeAsync(z, t.a);
    cudaFreeAsync(z, t.a);
  });
}

TEST(StreamMutants, LeakIsCounted) {
  twin::start({});
  const size_t before = twin::live_allocations();
  Bench t;
  float* z = Bench::allocate(kBytes, t.a);
  EXPECT_EQ(twin::live_allocations(), before + 5);
  cudaFreeAsync(z, t.a);
  EXPECT_EQ(twin::live_allocations(), before + 4);
}

TEST(StreamMutants, HostTouchesDeviceMemory) {
  testing::FLAGS_gtest_death_test_style = "fast";
  twin::start({});
  Bench t;
  EXPECT_DEATH(
      {
        volatile float* p = t.x;
        p[0] = 1;
      },
      "");
}

cudaGraph_t capture(Bench& t, bool join) {
  cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
  scale(t.x, 2, kN, t.a);
  t.order(t.a, t.b);
  add(t.x, t.y, kN, t.b);
  if (join) {
    cudaEventRecord(t.other_event, t.b);
    cudaStreamWaitEvent(t.a, t.other_event, 0);
  }
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(t.a, &graph);
  return graph;
}

TEST(Graphs, ReplayRunsAllBranches) {
  expect_sound([](Bench& t) {
    cudaGraph_t graph = capture(t, true);
    cudaGraphExec_t exec = nullptr;
    cudaGraphInstantiate(&exec, graph, 0);
    scale(t.x, 1, kN, t.c);  // which every branch must come after
    for (int i = 0; i < 3; ++i) cudaGraphLaunch(exec, t.c);
    t.download(t.c);
    cudaStreamSynchronize(t.c);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return t.y_is(1 + 2 + 4 + 8);
  });
}

TEST(GraphMutants, BranchThatIsNotJoined) {
  expect_found(Kind::kApi, [](Bench& t) { EXPECT_EQ(capture(t, false), nullptr); });
}

TEST(GraphMutants, SynchronizeDuringACapture) {
  expect_found(Kind::kApi, [](Bench& t) {
    cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
    EXPECT_NE(cudaStreamSynchronize(t.a), cudaSuccess);
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(t.a, &graph);
    cudaGraphDestroy(graph);
  });
}

TEST(Launches, ImpossibleShapesAreRefused) {
  twin::start({});
  Bench t;
  EXPECT_EQ(scale(t.x, 2, 0, t.a), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
