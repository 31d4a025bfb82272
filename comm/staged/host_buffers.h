// Memory of the host for rounds, kept and used again: pinning it costs more than copying into it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/staged/copies.h"

namespace acp {

// Used by one thread at a time.
class HostBuffers {
 public:
  // `wait` returns when the mark is reached.
  HostBuffers(DeviceCopies& copies, std::function<void(const MarkPtr&)> wait)
      : copies_(copies), wait_(std::move(wait)) {}

  // A flat tensor of undefined content; waits for the device where all the memory of that size is in use.
  at::Tensor take(std::int64_t numel, at::ScalarType type);
  // `busy`: until there the device still reads or writes it.
  void give_back(const at::Tensor& taken, MarkPtr busy);

 private:
  struct Spare {
    at::Tensor bytes;
    MarkPtr busy;
  };
  DeviceCopies& copies_;
  const std::function<void(const MarkPtr&)> wait_;
  std::vector<Spare> spare_;  // the longest given back first
  std::size_t made_ = 0;
};

}  // namespace acp
