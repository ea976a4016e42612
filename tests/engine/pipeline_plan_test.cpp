#include "engine/pipeline_plan.h"

#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

TEST(PlanForward, FillsEveryStageWhereverItsChunksAre) {
  for (const ScheduleKind& kind : schedule_kinds())
    for (int stages = 1; stages <= 8; ++stages)
      for (int chunks = kind.min_chunks; chunks <= (kind.max_chunks == 0 ? 4 : kind.max_chunks); ++chunks)
        for (const int passes : {1, 3, 16}) {
          const std::vector<int> places = make_schedule(kind.name, stages, chunks, 4).rank_of_chunk;
          const Simulation simulation = simulate(plan_forward(places, stages, passes), {}, 0, Pass::kForward);
          ASSERT_EQ(simulation.error, "") << kind.name << " " << stages << " x " << chunks << ", " << passes;
          // The last micro-batch begins when all before it have taken their place, and goes through every chunk; where
          // chunks of a stage ask for it at once, one waits for the others.
          const double most = passes * chunks + stages * chunks + chunks * chunks;
          EXPECT_LE(simulation.times.end(), most) << kind.name << " " << stages << " x " << chunks << ", " << passes;
        }
}

}  // namespace
}  // namespace deepflow
