#include "launch/probe.h"

#include "checkpoint/foreign_tensor.h"
#include "checkpoint/safetensors_writer.h"
#include "core/error.h"
#include "engine/prepare.h"
#include "kernels/ops/elementwise.h"
#include "parallel/self_communicator.h"

#include <charconv>
#include <fstream>

namespace deepflow {
namespace {

std::vector<int32_t> parse_line(const std::string& line, const std::string& where, int64_t vocabulary) {
  std::vector<int32_t> ids;
  const char* const blanks = " \t\r,";
  for (size_t begin = line.find_first_not_of(blanks); begin != std::string::npos;) {
    const size_t end = std::min(line.find_first_of(blanks, begin), line.size());
    int32_t id = -1;
    const auto [stop, error] = std::from_chars(line.data() + begin, line.data() + end, id);
    if (error != std::errc() || stop != line.data() + end)
      throw DataError("{}: item {} is no token id", where, ids.size() + 1);
    if (id < 0 || id >= vocabulary)
      throw DataError("{}: token {} is outside the model's vocabulary of {}", where, id, vocabulary);
    ids.push_back(id);
    begin = line.find_first_not_of(blanks, end);
  }
  return ids;
}

// The tokens as a batch of a training step: every token but a sequence's last predicts the one behind it.
struct ProbeBatch {
  std::vector<int32_t> tokens, labels, positions;
  std::vector<int32_t> next_tokens, next_labels;  // of the row behind each, for multi-token prediction
  std::vector<int64_t> row_ids;
  std::vector<float> weights, next_weights;
  RowInfo rows;

  ProbeBatch(const TokenFile& file, float mtp_weight) : tokens(file.ids) {
    const float weight = 1.0f / static_cast<float>(file.batch * (file.sequence - 1));
    for (int64_t i = 0; i < file.batch * file.sequence; ++i) {
      const int64_t t = i % file.sequence;
      const bool last = t == file.sequence - 1, one_but_last = t == file.sequence - 2;
      next_tokens.push_back(tokens[static_cast<size_t>(i) + (last ? 0 : 1)]);
      next_labels.push_back(last || one_but_last ? -1 : tokens[static_cast<size_t>(i) + 2]);
      next_weights.push_back(last || one_but_last ? 0.0f : mtp_weight * weight);
      labels.push_back(last ? -1 : tokens[static_cast<size_t>(i) + 1]);
      weights.push_back(last ? 0.0f : weight);
      positions.push_back(static_cast<int32_t>(t));
      row_ids.push_back(i);
    }
    rows.batch = file.batch;
    rows.sequence = file.sequence;
    rows.positions = Tensor::wrap(positions.data(), {rows.rows()}, DType::kI32);
    rows.row_ids = Tensor::wrap(row_ids.data(), {rows.rows()}, DType::kI64);
  }
  Tensor as_tensor(std::vector<int32_t>& values) const {
    return Tensor::wrap(values.data(), {rows.rows()}, DType::kI32);
  }
};

ForwardContext forward_context(Machine& machine, const ProbeBatch& batch) {
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.compute = machine.store.compute();
  context.products = machine.products;
  context.rows = batch.rows;
  return context;
}

float run_loss(Machine& machine, ProbeBatch& batch, bool gradients) {
  Runtime& rt = machine.runtime;
  Tape tape;
  ForwardContext context = forward_context(machine, batch);
  if (gradients) context.tape = &tape;
  const auto weights = [&](std::vector<float>& values) {
    return Tensor::wrap(values.data(), {batch.rows.rows()}, DType::kF32);
  };
  const Var hidden = machine.model.hidden(context, batch.as_tensor(batch.tokens));
  const LossResult result =
      machine.model.loss_of(context, hidden, batch.as_tensor(batch.labels), weights(batch.weights));
  if (!gradients) return *result.loss.value.data<float>();
  machine.store.begin_step(1, nullptr);
  BackwardContext backward{rt, machine.stream, machine.store,
                           [&rt](Tensor& into, const Tensor& x) { accumulate_gradient(rt, into, x); }};
  Tensor seed = Tensor::empty(rt.memory(), {1}, DType::kF32);
  fill(rt, seed, 1);
  if (machine.model.shape().mtp > 0) {
    const Var ahead = machine.model.hidden_ahead(context, hidden, batch.as_tensor(batch.next_tokens));
    const LossResult next =
        machine.model.loss_of(context, ahead, batch.as_tensor(batch.next_labels), weights(batch.next_weights));
    tape.root(next.loss, {seed, nullptr}, backward);
  }
  tape.root(result.loss, {seed, nullptr}, backward);
  tape.backward(backward);
  machine.store.finish_gradients(machine.stream);
  return *result.loss.value.data<float>();
}

void append(SafetensorsWriter& writer, const Tensor& matrix) {
  for (int64_t r = 0; r < matrix.rows(); ++r)
    writer.append(matrix.data<float>() + r * matrix.ld(), static_cast<size_t>(matrix.cols()) * sizeof(float));
}

}  // namespace

TokenFile read_token_file(const std::string& path, int64_t vocabulary) {
  std::ifstream in(path);
  if (!in) throw StorageError("{}: cannot open it", path);
  TokenFile file;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    const std::string where = fmt::format("{}:{}", path, number);
    const std::vector<int32_t> ids = parse_line(line, where, vocabulary);
    if (ids.empty()) continue;
    const auto length = static_cast<int64_t>(ids.size());
    if (file.batch == 0) file.sequence = length;
    if (length != file.sequence)
      throw DataError("{}: {} ids, but the lines before it have {}; give lines of the same length", where, length,
                      file.sequence);
    file.ids.insert(file.ids.end(), ids.begin(), ids.end());
    ++file.batch;
  }
  if (file.sequence < 2)
    throw DataError("{}: needs lines of two or more token ids, so that there is a next token", path);
  return file;
}

void probe(const RunOptions& options, const ProbeOptions& probe_options) {
  const std::unique_ptr<Communicator> comm = make_self_communicator("probe");
  Session session(options.model, session_options(options, *comm));
  Machine machine = session.machine();
  const ModelShape& shape = machine.model.shape();
  const TokenFile file = read_token_file(probe_options.tokens, shape.vocabulary);
  ProbeBatch batch(file, machine.model.mtp_weight());
  set_initial_values(session, options);

  std::vector<SafetensorsItem> items = {{"logits", DType::kF32, {file.batch, file.sequence, shape.vocabulary}},
                                        {"loss", DType::kF32, {}}};
  std::vector<ForeignTensor> foreign;
  for (const NameMapEntry& entry : machine.model.hugging_face_names().map) {
    if (!probe_options.gradients) break;
    if (session.registry().find(entry.logical.front())->spec.role == Role::kBuffer) continue;  // has no gradient
    foreign.emplace_back(entry, session.registry());
    items.push_back({entry.external, DType::kF32, foreign.back().shape()});
  }
  SafetensorsWriter writer(probe_options.out, items, {{"format", "pt"}});
  {
    ForwardContext context = forward_context(machine, batch);
    append(writer, machine.model.logits(context, batch.as_tensor(batch.tokens)));
  }
  const float loss = run_loss(machine, batch, probe_options.gradients);
  writer.append(&loss, sizeof(loss));
  const auto gradient = [&](const Parameter& p) { return session.store().gradient_of(p); };
  for (const ForeignTensor& tensor : foreign) {
    const Tensor whole = tensor.assemble(session.runtime(), gradient);
    writer.append(whole.raw(), whole.num_bytes());
  }
  writer.commit();
}

}  // namespace deepflow
