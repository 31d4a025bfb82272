// See emulated_kernels.h.
#include "tests/support/emulated_kernels.h"

#include <cstring>
#include <memory>

#include "compressors/cuda/code.h"
#include "compressors/cuda/copy.h"
#include "compressors/cuda/low_rank.h"
#include "compressors/cuda/orthogonalize.h"
#include "compressors/cuda/scatter.h"
#include "compressors/cuda/select.h"

namespace acp::device {
namespace {

class HostBlock {
 public:
  HostBlock(std::int64_t index, bool backwards) : index_(index), backwards_(backwards) {}
  std::int64_t index() const { return index_; }
  template <class F>
  void each(const F& f) {
    for (int t = 0; t < threads; ++t) f(backwards_ ? threads - 1 - t : t);
  }
  std::uint32_t add(std::uint32_t* to, std::uint32_t number) {
    const auto before = *to;
    *to += number;
    return before;
  }
  void raise(std::uint32_t* to, std::uint32_t number) { *to = most_of(*to, number); }

 private:
  std::int64_t index_;
  bool backwards_;
};

struct HostLaunch {
  bool backwards = false;

  template <class Body>
  void operator()(std::int64_t blocks, const Body& body) const {
    static_assert(sizeof(Body) <= 4096, "a launch takes 4 KB of arguments");
    static_assert(sizeof(typename Body::Shared) <= 48 * 1024, "a block shares 48 KB");
    const auto shared = std::make_unique<typename Body::Shared>();
    for (std::int64_t b = 0; b < blocks; ++b) {
      // What an earlier block left must not be of use.
      std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof(typename Body::Shared));
      HostBlock block(backwards ? blocks - 1 - b : b, backwards);
      body(block, *shared);
    }
  }
};

class EmulatedKernels final : public Kernels {
 public:
  explicit EmulatedKernels(bool backwards) : launch_{backwards} {}

  void copy(std::span<const Copy> pieces, Type from, Type to, float scale, Place) const override {
    device::copy(pieces, from, to, scale, launch_);
  }
  void accumulate(std::span<const Sum> sums, float scale, Place) const override {
    device::accumulate(sums, scale, launch_);
  }
  void spoil(float* number, const std::uint32_t* largest, Place) const override {
    launch_(1, SpoilBody{number, largest});
  }
  void top_k(std::span<const TopK> parts, std::byte* scratch, Place) const override {
    device::top_k(parts, scratch, launch_);
  }
  void scatter(std::span<const Scatter> parts, int ranks, std::int64_t stride, Combined combined,
               Place) const override {
    device::scatter(parts, ranks, stride, combined, launch_);
  }
  void encode(std::span<const Encode> parts, const LevelCode& code, std::byte* scratch,
              Place) const override {
    device::encode(parts, code, scratch, launch_);
  }
  void decode(std::span<const Decode> parts, const LevelCode& code, int ranks, std::int64_t stride,
              Combined combined, Place) const override {
    device::decode(parts, code, ranks, stride, combined, launch_);
  }
  void orthogonalize(std::span<const Basis> parts, Place) const override {
    device::orthogonalize(parts, launch_);
  }
  void times_q(std::span<const Product> parts, Place) const override { device::times_q(parts, launch_); }
  void times_p(std::span<const Product> parts, std::byte* scratch, Place) const override {
    device::times_p(parts, scratch, launch_);
  }
  void outer(std::span<const Product> parts, Write write, Place) const override {
    device::outer(parts, write, launch_);
  }

 private:
  HostLaunch launch_;
};

}  // namespace

const Kernels& emulated_kernels(bool backwards) {
  static const EmulatedKernels forwards(false), reversed(true);
  return backwards ? reversed : forwards;
}

}  // namespace acp::device
