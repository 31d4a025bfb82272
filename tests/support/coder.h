// A quantiser alone, for tests: values to bytes and back, step by step.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressors/coded_method.h"
#include "tests/support/print_bytes.h"

namespace acp {

class Coder {
 public:
  explicit Coder(const std::string& spec, std::vector<std::int64_t> shape = {})
      : shape_(std::move(shape)), quantiser_(make_quantiser(parse_spec(spec).at(0), shape_)) {}

  std::vector<std::byte> encode(std::span<const float> x) {
    // What was in the code before must not matter.
    std::vector<std::byte> code(quantiser_->bytes(static_cast<std::int64_t>(x.size())), std::byte{0x5a});
    std::vector<float> y(x.begin(), x.end());
    quantiser_->prepare(y);
    quantiser_->encode(y, block(x.size()), code);
    return code;
  }
  std::vector<std::byte> encode_and_keep(std::span<float> y) {
    std::vector<std::byte> code(quantiser_->bytes(static_cast<std::int64_t>(y.size())), std::byte{0x5a});
    quantiser_->encode_and_keep(y, block(y.size()), code);
    return code;
  }
  std::vector<float> decode(std::span<const std::byte> code, std::size_t n) const {
    std::vector<float> out(n, -77);
    quantiser_->decode(code, out);
    return out;
  }
  std::vector<float> round_trip(std::span<const float> x) { return decode(encode(x), x.size()); }

  Quantiser& quantiser() { return *quantiser_; }

  StepContext step{.rank = 0, .size = 1, .step = 0, .seed = 17};

 private:
  Block block(std::size_t n) const {
    return {"w", shape_.empty() ? std::vector<std::int64_t>{static_cast<std::int64_t>(n)} : shape_, &step};
  }

  std::vector<std::int64_t> shape_;
  std::unique_ptr<Quantiser> quantiser_;
};

}  // namespace acp
