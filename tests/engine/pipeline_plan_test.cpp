#include "engine/pipeline_plan.h"

#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

TEST(PlanForward, IsProvenAndLeavesNoGapsWhereItCan) {
  for (const ScheduleKind& kind : schedule_kinds())
    for (int stages = 1; stages <= 8; ++stages)
      for (int chunks = kind.min_chunks; chunks <= (kind.max_chunks == 0 ? 4 : kind.max_chunks); ++chunks)
        for (const int passes : {1, 3, 16}) {
          const std::vector<int> places = make_schedule(kind.name, stages, chunks, 4).rank_of_chunk;
          const Simulation simulation = simulate(plan_forward(places, stages, passes), {}, 0, Pass::kForward);
          ASSERT_EQ(simulation.error, "") << kind.name << " " << stages << " x " << chunks << ", " << passes;
          // Straight and V-shaped placements fit without a gap; where chunks go round and round, some wait for others.
          const double least = passes * chunks + (stages - 1) * chunks;
          if (chunks == 1 || kind.v_shaped) {
            EXPECT_EQ(simulation.times.end(), least) << kind.name << " " << stages;
          }
        }
}

}  // namespace
}  // namespace deepflow
