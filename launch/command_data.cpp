#include "launch/command_data.h"

#include "core/error.h"
#include "core/log.h"
#include "core/thread_pool.h"
#include "data/bpe_trainer.h"
#include "data/document_reader.h"
#include "data/token_store.h"
#include "data/token_store_writer.h"
#include "data/tokenizer.h"
#include "launch/cli.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {
namespace {

constexpr size_t kBytesOfABlock = size_t{32} << 20;  // text that is encoded at a time

struct Sources {
  std::vector<std::string> paths;
  DocumentOptions documents;
};

struct TrainTokenizerArguments {
  Sources sources;
  BpeTrainerOptions trainer;
  std::string out;
};

struct TokenizeArguments {
  Sources sources;
  std::string tokenizer, out;
  int threads = available_cores();
  bool end_token = true, match_special = false;
};

struct InspectArguments {
  std::string store, tokenizer;
  int64_t first = 0, count = 0;
  bool verify = false;
};

int train_tokenizer(const TrainTokenizerArguments& arguments) {
  const auto reader = open_documents(arguments.sources.paths, arguments.sources.documents);
  const auto tokenizer = train_bpe(arguments.trainer, [&](std::string& text) { return reader->next(&text); });
  save_tokenizer(*tokenizer, arguments.out);
  log_info("{}: {} tokens, digest {}", arguments.out, tokenizer->vocabulary_size(), tokenizer->digest());
  return 0;
}

// Encodes documents block by block on all threads and appends them in order.
class Tokenization {
 public:
  Tokenization(const Tokenizer& tokenizer, const TokenizeArguments& arguments)
      : tokenizer_(tokenizer),
        threads_(arguments.threads),
        end_(arguments.end_token ? tokenizer.eos() : kNoToken),
        writer_(arguments.out, tokenizer.vocabulary_size(), tokenizer.digest()) {
    encode_.match_special = arguments.match_special;
  }

  void add(std::string document) {
    bytes_ += document.size();
    documents_.push_back(std::move(document));
    if (bytes_ >= kBytesOfABlock) flush();
  }

  void finish() {
    flush();
    writer_.finish();
  }

  const TokenStoreWriter& writer() const { return writer_; }
  int64_t total_bytes() const { return total_bytes_; }

 private:
  void flush() {
    const std::vector<std::string_view> texts(documents_.begin(), documents_.end());
    const EncodedDocuments encoded = encode_documents(tokenizer_, texts, encode_, threads_);
    std::vector<TokenId> document;
    int64_t begin = 0;
    for (size_t i = 0; i < documents_.size(); ++i) {
      document.assign(encoded.ids.begin() + begin, encoded.ids.begin() + encoded.ends[i]);
      if (end_ != kNoToken) document.push_back(end_);
      writer_.append(document, static_cast<int64_t>(documents_[i].size()));
      begin = encoded.ends[i];
    }
    total_bytes_ += static_cast<int64_t>(bytes_);
    documents_.clear();
    bytes_ = 0;
  }

  const Tokenizer& tokenizer_;
  int threads_;
  TokenId end_;
  EncodeOptions encode_;
  TokenStoreWriter writer_;
  std::vector<std::string> documents_;
  size_t bytes_ = 0;
  int64_t total_bytes_ = 0;
};

int tokenize(const TokenizeArguments& arguments) {
  const auto tokenizer = load_tokenizer(arguments.tokenizer);
  Tokenization work(*tokenizer, arguments);
  const auto reader = open_documents(arguments.sources.paths, arguments.sources.documents);
  for (std::string document; reader->next(&document); document.clear()) work.add(std::move(document));
  work.finish();
  log_info(
      "{}: {} tokens of {} documents, {:.3f} bytes a token", arguments.out, work.writer().num_tokens(),
      work.writer().num_documents(),
      static_cast<double>(work.total_bytes()) / static_cast<double>(std::max<int64_t>(1, work.writer().num_tokens())));
  return 0;
}

int inspect(const InspectArguments& arguments) {
  const auto store = open_token_store(arguments.store);
  if (arguments.verify) store->verify();
  const nlohmann::json about{{"path", store->path()},
                             {"format", store->format()},
                             {"tokens", store->num_tokens()},
                             {"documents", store->num_documents()},
                             {"vocabulary", store->vocabulary_size()},
                             {"tokenizer", store->tokenizer_digest()},
                             {"source_bytes", store->source_bytes()},
                             {"digest", store->digest()}};
  fmt::print("{}\n", about.dump(2));
  const int64_t first = std::clamp<int64_t>(arguments.first, 0, store->num_tokens());
  const int64_t count = std::clamp<int64_t>(arguments.count, 0, store->num_tokens() - first);
  if (count == 0) return 0;
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  store->read(first, tokens);
  if (arguments.tokenizer.empty())
    fmt::print("{}\n", fmt::join(tokens, " "));
  else
    fmt::print("{}\n", load_tokenizer(arguments.tokenizer)->decode(tokens));
  return 0;
}

void add_sources(CLI::App* command, Sources& sources) {
  command->add_option("files", sources.paths, "text, .jsonl, either also .gz or .dz; or folders of them")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--separator", sources.documents.separator, "between documents of a text file; none: a file is one")
      ->type_name("TEXT");
  command->add_option("--max-bytes", sources.documents.max_bytes, "longer documents are cut")->capture_default_str();
  command->add_option("--key", sources.documents.json_key, "of the text in a line of JSON")->capture_default_str();
}

void add_train_tokenizer(Cli& cli, CLI::App* data) {
  const auto arguments = std::make_shared<TrainTokenizerArguments>();
  arguments->trainer.threads = available_cores();
  BpeTrainerOptions& trainer = arguments->trainer;
  CLI::App* command = cli.add_command(
      "train-tokenizer", "learn a byte-level BPE vocabulary from text",
      [arguments] { return train_tokenizer(*arguments); }, data);
  add_sources(command, arguments->sources);
  command->add_option("--out", arguments->out, "tokenizer.json, or a folder for it")->required()->type_name("FILE");
  command->add_option("--vocabulary", trainer.vocabulary, "tokens in all")->capture_default_str();
  command
      ->add_option("--pattern", trainer.pattern, "gpt2, llama3, qwen or a regular expression that cuts text into words")
      ->capture_default_str();
  command->add_option("--special", trainer.special_tokens, "special tokens; the first ends a document")
      ->capture_default_str();
  command->add_flag("--nfc", trainer.nfc, "bring text to Unicode normal form C first");
  command->add_option("--threads", trainer.threads, "threads")->capture_default_str()->check(CLI::Range(1, 4096));
}

void add_tokenize(Cli& cli, CLI::App* data) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* command = cli.add_command(
      "tokenize", "turn text into a token store", [arguments] { return tokenize(*arguments); }, data);
  add_sources(command, arguments->sources);
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json, its folder, or byte")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", arguments->out, "token store to write")->required()->type_name("FILE");
  command->add_flag("!--no-end-token", arguments->end_token, "do not end documents with the tokenizer's end token");
  command->add_flag("--match-special", arguments->match_special,
                    "special tokens written out in the text become their ids");
  command->add_option("--threads", arguments->threads, "threads")->capture_default_str()->check(CLI::Range(1, 4096));
}

void add_inspect(Cli& cli, CLI::App* data) {
  const auto arguments = std::make_shared<InspectArguments>();
  CLI::App* command = cli.add_command(
      "inspect", "what a token store holds", [arguments] { return inspect(*arguments); }, data);
  command->add_option("store", arguments->store, "token store")->required()->type_name("FILE");
  command->add_flag("--verify", arguments->verify, "read everything and compare with the checksums");
  command->add_option("--first", arguments->first, "first token to print");
  command->add_option("--count", arguments->count, "tokens to print");
  command->add_option("--tokenizer", arguments->tokenizer, "prints them as text")->type_name("FILE");
}

}  // namespace

void add_data_command(Cli& cli) {
  CLI::App* data = cli.add_command("data", "tokenizers and token stores", nullptr);
  add_train_tokenizer(cli, data);
  add_tokenize(cli, data);
  add_inspect(cli, data);
}

}  // namespace deepflow
