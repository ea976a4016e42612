#include "core/autograd.h"

#include "core/context.h"
#include "core/error.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

// Records what it is asked; owns no parameters.
class NoStore final : public ParameterStore {
 public:
  Tensor acquire(Pack&, Form, Stream&) override { return {}; }
  void release(Pack&) override {}
  GradientTarget gradient(Pack&) override { return {}; }
  void contributed(Pack&) override {}
};

class CountedWork final : public Work {
 public:
  void wait(Stream&) override { ++waits; }
  void wait_host() override { ++waits; }
  int waits = 0;
};

class AutogradTest : public ::testing::Test {
 protected:
  Tensor scalar(float x) {
    Tensor t = Tensor::empty(runtime_.memory(), {1}, DType::kF32);
    *t.data<float>() = x;
    return t;
  }
  Grad grad(float x) { return {scalar(x), nullptr}; }
  static float value(const Tensor& t) { return *t.data<float>(); }

  // y = factor * x; logs "name.i" and "name.w".
  class Scale final : public Node {
   public:
    Scale(AutogradTest& test, std::string name, float factor) : test_(test), name_(std::move(name)), factor_(factor) {}
    const char* name() const override { return name_.c_str(); }
    std::vector<Grad> backward_input(BackwardContext&, std::span<Grad> out) override {
      test_.log_.push_back(name_ + ".i");
      std::vector<Grad> grads;
      grads.push_back(test_.grad(factor_ * value(out[0].value)));
      return grads;
    }
    void backward_weight(BackwardContext&) override { test_.log_.push_back(name_ + ".w"); }

   private:
    AutogradTest& test_;
    std::string name_;
    float factor_;
  };

  Var scale(Tape* tape, const Var& x, const std::string& name, float factor) {
    Tensor y = scalar(factor * value(x.value));
    if (!tape) return {y};
    const Var in[] = {x};
    return tape->record(std::make_unique<Scale>(*this, name, factor), in, y);
  }

  Runtime runtime_{{.threads = 1}};
  std::unique_ptr<Stream> stream_ = make_cpu_stream();
  NoStore store_;
  BackwardContext context_{runtime_, *stream_, store_,
                           [](Tensor& into, const Tensor& x) { *into.data<float>() += value(x); }};
  std::vector<std::string> log_;
};

TEST_F(AutogradTest, ChainRuleAndSumOverReaders) {
  Tape tape;
  const Var x = tape.leaf(scalar(2));
  const Var a = scale(&tape, x, "a", 3), b = scale(&tape, a, "b", 5), c = scale(&tape, a, "c", 7);
  tape.root(b, grad(1), context_);
  tape.root(c, grad(10), context_);
  tape.backward(context_);
  EXPECT_EQ(value(tape.take(x).value), 3 * (5 + 70));
}

TEST_F(AutogradTest, ALossOfALayerIsARootWhileForwardStillRuns) {
  Tape tape;
  const Var x = tape.leaf(scalar(2));
  const Var a = scale(&tape, x, "a", 3), loss = scale(&tape, a, "loss", 7);
  tape.root(loss, scalar(0.5f));
  const Var b = scale(&tape, a, "b", 5);
  tape.root(b, grad(1), context_);
  tape.backward(context_);
  EXPECT_FLOAT_EQ(value(tape.take(x).value), 3 * (5 + 3.5f));
}

TEST_F(AutogradTest, ALossOfALayerInsideARecomputedSegmentIsARootOfItsReplay) {
  Tape tape;
  const Var x = tape.leaf(scalar(2));
  ForwardContext context{runtime_, *stream_, store_};
  context.tape = &tape;
  const std::vector<Var> y =
      recompute(context, std::span(&x, 1), [this](ForwardContext& inner, std::span<const Var> in) {
        const Var a = scale(inner.tape, in[0], "a", 3), loss = scale(inner.tape, a, "loss", 7);
        if (inner.tape) inner.tape->root(loss, scalar(0.5f));
        return std::vector<Var>{scale(inner.tape, a, "b", 5)};
      });
  tape.root(y[0], grad(1), context_);
  tape.backward(context_);
  EXPECT_FLOAT_EQ(value(tape.take(x).value), 3 * (5 + 3.5f));
}

TEST_F(AutogradTest, WeightGradientsFollowTheirInputGradientAtOnceWhenNotSplit) {
  Tape tape;
  const Var x = tape.leaf(scalar(1));
  const Var b = scale(&tape, scale(&tape, x, "a", 1), "b", 1);
  tape.root(b, grad(1), context_);
  tape.backward(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"b.i", "b.w", "a.i", "a.w"}));
}

TEST_F(AutogradTest, SplitBackwardRunsInputsBeforeWeightsAndStopsAtMarks) {
  Tape tape;
  const Var x = tape.leaf(scalar(1));
  const Var a = scale(&tape, x, "a", 1);
  const int mark = tape.mark();
  const Var b = scale(&tape, a, "b", 1);
  tape.root(b, grad(1), context_);
  tape.backward_input(context_, mark);
  EXPECT_EQ(log_, (std::vector<std::string>{"b.i"}));
  tape.backward_weight(context_, mark);
  tape.backward_input(context_);
  tape.backward_weight(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"b.i", "b.w", "a.i", "a.w"}));
}

TEST_F(AutogradTest, NodesWithoutAGradientAreSkipped) {
  Tape tape;
  const Var x = tape.leaf(scalar(1));
  const Var used = scale(&tape, x, "used", 2);
  scale(&tape, x, "unused", 100);
  tape.root(used, grad(1), context_);
  tape.backward(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"used.i", "used.w"}));
  EXPECT_EQ(value(tape.take(x).value), 2);
}

TEST_F(AutogradTest, FirstReaderWaitsForAGradientInFlight) {
  Tape tape;
  const Var x = tape.leaf(scalar(1));
  const Var a = scale(&tape, x, "a", 2);
  auto work = std::make_shared<CountedWork>();
  tape.root(a, {scalar(1), work}, context_);
  EXPECT_EQ(work->waits, 0);
  tape.backward(context_);
  EXPECT_EQ(work->waits, 1);
}

TEST_F(AutogradTest, TwoTapesMayAlternate) {
  Tape one, two;
  const Var x = one.leaf(scalar(1)), y = two.leaf(scalar(1));
  const Var a = scale(&one, x, "a", 2), b = scale(&two, y, "b", 3);
  const int mark = two.mark();
  const Var c = scale(&two, b, "c", 5);
  one.root(a, grad(1), context_);
  two.root(c, grad(1), context_);
  two.backward_input(context_, mark);
  one.backward_input(context_);
  two.backward_input(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"c.i", "a.i", "b.i"}));
  EXPECT_EQ(value(one.take(x).value), 2);
  EXPECT_EQ(value(two.take(y).value), 15);
}

TEST_F(AutogradTest, RecomputedSegmentGivesTheSameGradientsAndDefersItsWeights) {
  Tape tape;
  ForwardContext forward{runtime_, *stream_, store_};
  StatisticsSink sink;
  forward.statistics = &sink;
  forward.tape = &tape;
  const Var x = tape.leaf(scalar(1));
  const Var in[] = {x};
  const auto out = recompute(forward, in, [this](ForwardContext& c, std::span<const Var> v) {
    if (c.statistics) c.statistics->add("passes", 1);
    return std::vector<Var>{scale(c.tape, scale(c.tape, v[0], "a", 3), "b", 5)};
  });
  EXPECT_EQ(value(out[0].value), 15);
  tape.root(out[0], grad(1), context_);
  tape.backward_input(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"b.i", "a.i"}));
  tape.backward_weight(context_);
  EXPECT_EQ(log_, (std::vector<std::string>{"b.i", "a.i", "b.w", "a.w"}));
  EXPECT_EQ(value(tape.take(x).value), 15);
  EXPECT_EQ(sink.sums().at("passes"), 1);
}

TEST_F(AutogradTest, ASharedGradientIsNotOverwritten) {
  Tape tape;
  const Var x = tape.leaf(scalar(1));
  const Tensor mine = scalar(1);
  tape.root(x, {mine, nullptr}, context_);
  tape.root(x, grad(4), context_);
  EXPECT_EQ(value(tape.take(x).value), 5);
  EXPECT_EQ(value(mine), 1);
}

}  // namespace
}  // namespace deepflow
