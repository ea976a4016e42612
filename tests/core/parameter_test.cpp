#include "core/error.h"
#include "core/parameter_registry.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

ParameterSpec matrix(const char* name, int64_t out, int64_t in) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = {out, in};
  return spec;
}

TEST(LocalBoxes, WholeWithoutAPlacement) {
  const auto boxes = local_boxes(matrix("w", 6, 4), {{"tp", 1, 2}});
  EXPECT_EQ(boxes, (std::vector<Box>{{{0, 0}, {6, 4}}}));
}

TEST(LocalBoxes, DealsUnitsInOrderOverTheAxes) {
  ParameterSpec spec = matrix("w", 8, 4);
  spec.placement = {{0, {"tp"}, 4}};
  EXPECT_EQ(local_boxes(spec, {{"tp", 1, 2}}).front(), (Box{{4, 0}, {8, 4}}));
  spec.placement = {{0, {"a", "b"}, 8}};
  EXPECT_EQ(local_boxes(spec, {{"a", 1, 2}, {"b", 0, 2}}).front(), (Box{{4, 0}, {6, 4}}));
}

TEST(LocalBoxes, NeighboursReplicateWhenUnitsAreFewer) {
  ParameterSpec spec = matrix("k", 8, 4);
  spec.placement = {{0, {"tp"}, 2}};
  const Box low{{0, 0}, {4, 4}}, high{{4, 0}, {8, 4}};
  EXPECT_EQ(local_boxes(spec, {{"tp", 0, 4}}).front(), low);
  EXPECT_EQ(local_boxes(spec, {{"tp", 1, 4}}).front(), low);
  EXPECT_EQ(local_boxes(spec, {{"tp", 2, 4}}).front(), high);
  EXPECT_EQ(local_boxes(spec, {{"tp", 3, 4}}).front(), high);
}

TEST(LocalBoxes, RefusesWhatCannotBeDealt) {
  ParameterSpec spec = matrix("q", 12, 4);
  spec.placement = {{0, {"tp"}, 4}};
  EXPECT_THROW(local_boxes(spec, {{"tp", 0, 3}}), ConfigError);
}

TEST(LocalBoxes, CoverTheTensorOnceWhenUnitsDivide) {
  ParameterSpec spec = matrix("w", 24, 10);
  spec.placement = {{0, {"tp"}, 12}, {1, {"etp"}, 5}};
  int64_t covered = 0;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 5; ++j) covered += local_boxes(spec, {{"tp", i, 4}, {"etp", j, 5}}).front().num_elements();
  EXPECT_EQ(covered, 240);
}

TEST(ParameterRegistry, LaysPackMembersSideBySide) {
  ParameterRegistry registry;
  Pack* qkv = registry.add("qkv", {matrix("q", 8, 4), matrix("k", 2, 4), matrix("v", 2, 4)});
  registry.freeze({});
  EXPECT_EQ(qkv->rows, 12);
  EXPECT_EQ(qkv->cols, 4);
  EXPECT_EQ(registry.find("k")->pack_offset, 32);
  EXPECT_EQ(registry.find("v")->pack_offset, 40);
  EXPECT_EQ(registry.num_elements(), 48);
}

TEST(ParameterRegistry, MakesAGroupOfEveryLocalExpert) {
  ParameterRegistry registry;
  ParameterSpec gate = matrix("gate", 8, 4);
  gate.shape = {6, 8, 4};
  gate.role = Role::kExpert;
  gate.placement = {{0, {"ep"}, 6}, {1, {"etp"}, 8}};
  ParameterSpec up = gate;
  up.name = "up";
  Pack* experts = registry.add("gate_up", {gate, up});
  Pack* plain = registry.add(matrix("w", 8, 4));
  registry.freeze({{"ep", 2, 3}, {"etp", 1, 2}});
  EXPECT_EQ(experts->groups, 2);
  EXPECT_EQ(experts->rows, 2 * 2 * 4);
  EXPECT_EQ(experts->group_rows(), 8);
  EXPECT_EQ(experts->cols, 4);
  EXPECT_EQ(registry.find("up")->pack_offset, 2 * 4 * 4);
  EXPECT_EQ(registry.find("up")->boxes.front(), (Box{{4, 4, 0}, {6, 8, 4}}));
  EXPECT_EQ(plain->groups, 1);
  EXPECT_EQ(plain->group_rows(), 8);
}

TEST(ParameterRegistry, PadsVocabularyRowsOnly) {
  ParameterRegistry registry;
  ParameterSpec table = matrix("embedding", 97, 4);
  table.role = Role::kEmbedding;
  Pack* embedding = registry.add(table);
  Pack* plain = registry.add(matrix("w", 97, 4));
  registry.freeze({});
  EXPECT_EQ(embedding->rows, 97);
  EXPECT_EQ(embedding->physical_rows, 128);
  EXPECT_EQ(plain->physical_rows, 97);
}

}  // namespace
}  // namespace deepflow
