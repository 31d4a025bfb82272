// Times of one compressor on one matrix, without any other rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressors/codec.h"

namespace acp::programs {

struct Repeat {
  std::int64_t iterations = 7, warmup = 2;
  at::Device device = at::kCPU;  // a time ends when what is queued there is done
};

// Medians, in seconds.
struct Times {
  double encode = 0, decode = 0;
};

// What was measured, and what it has to move at least. With an error memory the gradient and the memory are
// read once, and memory and result written once; all of it counts as encoding but the result.
struct Measured {
  Times times;
  double payload = 0;  // bytes of code
  double encode_bytes = 0, decode_bytes = 0;
  double error = 0;  // norm of result - gradient / norm of the gradient, first step
};

double seconds(at::Device device = at::kCPU);
double median(std::vector<double> times);
// Median of the times of `work`.
double median_time(const Repeat& repeat, const std::function<void()>& work);
// Of two pieces of work in turn, after `restore`, which is not measured.
Times median_times(const Repeat& repeat, const std::function<void()>& restore,
                   const std::function<void()>& encode, const std::function<void()>& decode);

// A matrix as near to a square as the number of floats allows: normal numbers whose rows and columns differ
// in size as those of gradients do.
at::Tensor make_gradient(std::int64_t bytes, std::uint64_t seed, at::Device device);

// Bytes per second that memcpy, or a copy on the GPU, reads and writes on as many bytes as the gradient has.
double memcpy_rate(const at::Tensor& gradient, const Repeat& repeat);

// The whole compressor as the engine runs it, by itself: memory, exchange (of one rank, whose own time does
// not count) and result. The gradients are one bucket. With probes (Compressor::set_probes()) their work
// counts, too.
Measured measure_exchange(const std::string& spec, const std::string& memory, std::uint64_t seed,
                          const std::vector<at::Tensor>& gradients, const Repeat& repeat,
                          const std::vector<double>& probes = {});

// The bare quantiser of a method, into a code and back, with error feedback in the same pass where `keep`;
// nothing for methods that are no quantiser, and on a GPU.
std::optional<Measured> measure_quantiser(const std::string& spec, bool keep, std::uint64_t seed,
                                          const at::Tensor& gradient, const Repeat& repeat);

}  // namespace acp::programs
