#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;

struct EncodeOptions {
  // Added tokens marked special (<|endoftext|>) that occur in the text become their ids, as in Hugging Face tokenizers;
  // false: they are ordinary text (encode_special_tokens there). Use false for text that nobody has vetted.
  bool match_special = true;
  // What the post-processor's template puts around a text (bos, eos) is written too.
  bool add_special = false;
};

// Between bytes and token ids. Immutable once made; every method may be called from any number of threads.
// Text is any bytes. encode is exact on what is not UTF-8: decode(encode(text)) == text for the byte tokenizer and for
// byte-level BPE without a normalizer (docs/formats/tokenizer.md tells how stray bytes are split off).
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of one document.
  virtual void encode(std::string_view text, std::vector<TokenId>& out, const EncodeOptions& options = {}) const = 0;
  // The bytes of a sequence of ids. Throws DataError on an id outside the vocabulary.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special = false) const = 0;
  // The bytes that one id stands for inside a sequence; may end inside a UTF-8 character.
  virtual std::string token_bytes(TokenId id) const = 0;

  virtual int64_t vocabulary_size() const = 0;  // highest id + 1
  // The id of a token as it is written in tokenizer.json ("<|endoftext|>"), or kNoToken.
  virtual TokenId find(std::string_view token) const = 0;
  // Ids that begin, end and pad a sequence, from tokenizer_config.json beside tokenizer.json, else known by name; or
  // kNoToken.
  virtual TokenId bos() const = 0;
  virtual TokenId eos() const = 0;  // also ends a document
  virtual TokenId pad() const = 0;

  // 32 hex digits that name what the tokenizer does: equal for equal content of tokenizer.json, whatever its layout
  // (docs/formats/tokenizer.md). Token stores carry it.
  virtual const std::string& digest() const = 0;
  // The content of tokenizer.json and of tokenizer_config.json.
  virtual std::string json() const = 0;
  virtual std::string config_json() const = 0;

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;
};

// `path`: a tokenizer.json, a folder that holds one, or "byte" for the byte tokenizer. Throws StorageError when it
// cannot be read, DataError (one line with the place in the file) for anything malformed or not supported.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);
// The same from the content of a tokenizer.json and of a tokenizer_config.json ("" for none); `name` is for messages.
std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& json, const std::string& config_json,
                                           const std::string& name);

// Writes tokenizer.json and tokenizer_config.json into `folder` (created if missing); both tokenizers and transformers
// load them. A path that ends in .json gets tokenizer.json alone. Throws StorageError.
void save_tokenizer(const Tokenizer& tokenizer, const std::string& path);

struct EncodedDocuments {
  std::vector<TokenId> ids;   // of all documents, one after the other
  std::vector<int64_t> ends;  // ends[i]: where document i ends in ids
};
// Encodes many documents on `threads` threads; the result does not depend on their number.
EncodedDocuments encode_documents(const Tokenizer& tokenizer, std::span<const std::string_view> documents,
                                  const EncodeOptions& options, int threads);

}  // namespace deepflow
