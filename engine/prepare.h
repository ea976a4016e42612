#pragma once

#include "core/option.h"
#include "data/tokenizer.h"
#include "engine/run_options.h"
#include "engine/session.h"

#include <memory>
#include <string>

namespace deepflow {

// The tokenizer that the recipe names; null when it names none.
std::unique_ptr<Tokenizer> open_tokenizer(const DataOptions& data);
// The one that lies beside a model's weights, or that a checkpoint's recipe names; null when there is none.
std::unique_ptr<Tokenizer> open_model_tokenizer(const std::string& model_folder);

// Completes the model's options from init_from, the tokenizer or the stores, and the data's sequence length.
// `keys`: the whole recipe's, for messages; may be null. Throws ConfigError.
void complete_model(RunOptions& options, const Tokenizer* tokenizer, const OptionGroup* keys);

// Initial values: init_from's, or random ones of train.seed.
void set_initial_values(Session& session, const RunOptions& options);

// Threads that the recipe leaves open are shared fairly with the host's other ranks. Collective.
SessionOptions session_options(const RunOptions& options, Communicator& all);
// The same for a session that trains.
SessionOptions training_session_options(const RunOptions& options, Communicator& all);

// A folder with a trained model as `deepflow train` leaves it (run folder: its `model` below), any Hugging Face folder,
// or a checkpoint. Throws ConfigError when it is none.
std::string find_model_folder(const std::string& path);

}  // namespace deepflow
