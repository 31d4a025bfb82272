// Coded methods on a GPU by its kernels: what the two exchanges, device_gather.cpp and device_scatter.cpp,
// share.
//
// Messages are laid out so that kernels write and read them without a word to the host, which knows their
// lengths beforehand. Codes are those of the CPU, each at a multiple of 16 bytes; a message begins with a
// head: a word that is at least device::infinite if the rank has met numbers that are not finite, then one
// bit per parameter that it has a gradient of. The heads are all that the host reads, once per bucket and
// step, when everything else is queued.
#pragma once

#include <utility>
#include <vector>

#include "compressors/codec_compressor.h"
#include "compressors/cuda/kernels.h"

namespace acp {

class DeviceCodec : public CodecCompressor {
 public:
  bool sends_missing_count() const final { return false; }

 protected:
  DeviceCodec(const Bucket& bucket, CodecSettings settings, const device::Kernels& kernels);

  static constexpr std::int64_t grain = 16;
  static constexpr std::int64_t aligned(std::int64_t bytes) { return (bytes + grain - 1) / grain * grain; }
  std::int64_t head_bytes() const { return aligned(4 + static_cast<std::int64_t>(flag_bytes())); }

  const device::Kernels& kernels() const { return *kernels_; }
  device::Place place() const;  // where the calling thread's work on the bucket goes
  // By slice: the largest magnitude so far, as bits. Nothing is forgotten: what a step meets after its heads
  // are written, the next one tells.
  std::uint32_t* largest() const;

  // First of a step: y of the whole bucket; what is not finite is noted.
  at::Tensor take(const Bucket& bucket);
  // head_bytes() at the beginning of `message`.
  void put_head(const Bucket& bucket, const at::Tensor& message) const;
  // Of the ranks, one head a row; waits for the GPU. DataError if a rank has met NaN or infinity. The result
  // is the union of their gradients' flags and `used`.
  Flags read_heads(const at::Tensor& heads, std::span<const int> ranks, Flags used,
                   const StepContext& step) const;

  // Codes of several blocks, which may differ in bits.
  struct Coding {
    device::LevelCode code;
    device::Encode block;
  };
  void encode(std::span<const Coding> blocks);
  struct Decoding {
    device::LevelCode code;
    device::Decode block;
  };
  void decode(std::span<const Decoding> blocks, int ranks, std::int64_t stride, device::Combined combined);
  device::Combined combined(int ranks) const;
  static std::int64_t code_bytes(const device::LevelCode& code, std::int64_t count);

  // Plain blocks: one message of their own, which all_reduce adds; no elements where there are none.
  at::Tensor pack_plain_blocks(const at::Tensor& y);
  void unpack_plain_blocks(const at::Tensor& sums, const Bucket& bucket, int ranks);

  float* at_block(const at::Tensor& flat, const Part& part, std::int64_t from = 0) const {
    return flat.data_ptr<float>() + part.offset + from;
  }

 private:
  void probe(const at::Tensor& y, const at::Tensor& gradients);

  const device::Kernels* kernels_;
  at::Tensor largest_;  // see largest()
  at::Tensor heads_;    // of a step in which no gradient is missing; the word is 0
};

std::unique_ptr<Compressor> make_device_gather(const Bucket& bucket, CodecSettings settings,
                                               const device::Kernels& kernels);
std::unique_ptr<Compressor> make_device_scatter(const Bucket& bucket, CodecSettings settings,
                                                const device::Kernels& kernels);

}  // namespace acp
