// Forms of the compress pass.
#include "compressors/kernels/compress.h"

#include "compressors/kernels/select.h"

namespace acp::kernels {

std::size_t compress_plain(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                           std::uint32_t* indices) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    indices[found] = base + static_cast<std::uint32_t>(i);  // written always: no branch to mispredict
    found += magnitude(x[i]) >= least;
  }
  return found;
}

std::size_t compress(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                     std::uint32_t* indices) {
  return compress_plain(x, least, base, indices);
}

}  // namespace acp::kernels
