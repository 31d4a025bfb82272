// A sparsifier, a quantiser, or one of each as a Compressor: what all exchanges of coded values share. The
// exchanges are gather_codec.cpp, reduce_codec.cpp, tree_codec.cpp and scatter_codec.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compressors/codec.h"
#include "compressors/coded_method.h"
#include "compressors/memory.h"
#include "compressors/sparse_wire.h"

namespace acp {

struct CodecSettings {
  std::string method;                                       // for messages
  std::function<std::unique_ptr<Sparsifier>()> sparsifier;  // empty: everything is sent
  std::function<std::unique_ptr<Quantiser>(std::span<const std::int64_t> shape)>
      quantiser;                                                   // empty: as it is
  std::function<bool(std::span<const std::int64_t> shape)> plain;  // blocks averaged whole; empty: none
  MemoryKind memory = MemoryKind::none;
  Feedback feedback;
  double momentum = 0;  // of the dgc memory
  std::string exchange = "gather";
  bool measure_error = false;
  bool by_layer = true;     // else the whole bucket is one block
  bool ratio_knob = false;  // policies set the ratio (else the bits)
  double ratio = 0;         // with it: the specification's own
  IndexForm indices = IndexForm::automatic;
  ValueForm values = ValueForm::fp32;
};

std::unique_ptr<Compressor> make_codec(const Bucket& bucket, CodecSettings settings);

// Blocks, memory, result and state. Sums over ranks are formed in rank order in float32, so all ranks end
// with the same bits. A rank without a parameter's gradient sends nothing for it and keeps its memory of it.
class CodecCompressor : public Compressor {
 public:
  State state() const final;
  void load_state(const State&) final;
  // Ratios of the sparsifier, or bits of the quantiser; empty = plain.
  void set_levels(std::span<const Level> levels) final;
  void set_probes(std::span<const double> ratios) final;
  at::Tensor error_memory() const final { return memory_.before_gradient(); }

 protected:
  CodecCompressor(const Bucket& bucket, CodecSettings settings);

  using Flags = std::vector<std::uint8_t>;  // per slice: has a gradient

  // What is coded together.
  struct Part {
    std::string name;
    std::vector<std::int64_t> shape;
    std::int64_t offset = 0, count = 0;
    std::size_t first = 0, slices = 0;
    bool plain = false;
    std::unique_ptr<Sparsifier> sparsifier;
    std::unique_ptr<Quantiser> quantiser;
    double ratio = 0;                    // with ratio_knob: of the sparsifier
    std::vector<Selection> probed;       // what each probe chose in this step
    Selection chosen;                    // of this step
    std::vector<std::uint32_t> touched;  // by any rank in this step, where votes are counted

    Block block(const StepContext& step) const { return {name, shape, &step}; }
  };

  // First of a step: refuses gradients that are not finite, before anything has changed, and takes the others
  // into the memory.
  void begin(const Bucket& bucket, const StepContext& step);
  // Once all that is sent is encoded, the result begins at zero (it may lie where the gradients were).
  void clear_result(Bucket& bucket);

  bool any(const Part& part, const Flags& used) const;
  bool all(const Part& part, const Flags& used) const;
  std::span<float> values(const Part& part);  // y of the block
  // Fills part.chosen by the sparsifier.
  void choose(Part& part, const Bucket& bucket, const StepContext& step);
  // This rank's message stands for these values at part.chosen.indices.
  void sent(Part& part, std::span<const float> values);

  // Adds one rank's decoded values to the result, for parameters that this rank has a gradient of.
  void add(Part& part, std::span<const std::uint32_t> indices, std::span<const float> decoded,
           const Flags& used);
  void add(const Part& part, std::int64_t from, std::span<const float> decoded, const Flags& used);
  // Means, votes, what is to become of the sums.
  void combine(int ranks);

  // Plain blocks: a message of their own, packed before the result begins; no elements where there are none.
  at::Tensor pack_plain(const Bucket& bucket);
  void unpack_plain(const at::Tensor& sums, const Bucket& bucket);
  // Last of a step: the result becomes the bucket's gradients.
  void finish(Bucket& bucket);

  // Bits of `used` as bytes, and back; DataError if they are of another number of slices.
  std::size_t flag_bytes() const { return (slices_.size() + 7) / 8; }
  void write_flags(const Flags& used, Bytes& out) const;
  Flags read_flags(Reader& in) const;
  static Flags merge(const std::vector<Flags>& ranks);

  // Called when blocks became plain or cease to be, or are coded otherwise.
  virtual void laid_out() {}

  // The result's place: the bucket's gradients, or float32 numbers that finish() converts.
  at::Tensor result(const Bucket& bucket) const { return converted_.defined() ? converted_ : bucket.grads; }
  const std::vector<double>& probes() const { return probes_; }

  CodecSettings settings_;
  std::vector<Slice> slices_;
  std::vector<Part> parts_;
  ErrorMemory memory_;
  std::span<float> result_;  // of the whole bucket
  Combine combine_ = Combine::mean;

 private:
  void count_sent(std::span<const float> values);
  void probe(const Bucket& bucket, const StepContext& step);
  // What select() is given: work(gradient of the block, block).
  void with_block(const Part& part, const Bucket& bucket, const StepContext& step,
                  const std::function<void(std::span<const float>, const Block&)>& work);

  at::Tensor converted_;  // the result, where gradients have another type
  std::vector<double> probes_;
};

// The exchanges by name.
std::unique_ptr<Compressor> make_gather_codec(const Bucket& bucket, CodecSettings settings);
std::unique_ptr<Compressor> make_reduce_codec(const Bucket& bucket, CodecSettings settings);
std::unique_ptr<Compressor> make_tree_codec(const Bucket& bucket, CodecSettings settings);
std::unique_ptr<Compressor> make_scatter_codec(const Bucket& bucket, CodecSettings settings);

// The exchange on a GPU by its kernels; null where these settings have no such form: they are then staged.
std::unique_ptr<Compressor> make_device_codec(const Bucket& bucket, const CodecSettings& settings,
                                              const device::Kernels& kernels);

// For messages: the bytes as a tensor without a copy, which owns them together with the caller; a message may
// be under way when its compressor has gone.
at::Tensor as_tensor(std::shared_ptr<Bytes> bytes);
std::span<std::byte> as_bytes(const at::Tensor& tensor);

}  // namespace acp
