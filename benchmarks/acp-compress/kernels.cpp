// See kernels.h.
#include "benchmarks/acp-compress/kernels.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "compressors/kernels/select.h"
#include "compressors/low_rank.h"
#include "compressors/orthogonalize.h"

namespace acp::programs {

namespace {

using Matrices = std::vector<std::pair<std::int64_t, std::int64_t>>;

// Convolutions as out x (in * kernel).
Matrices resnet50() {
  Matrices result{{64, 3 * 49}};
  std::int64_t in = 64;
  const std::pair<int, std::int64_t> stages[] = {{3, 64}, {4, 128}, {6, 256}, {3, 512}};
  for (const auto& [blocks, width] : stages) {
    for (int block = 0; block < blocks; ++block) {
      result.emplace_back(width, in);
      result.emplace_back(width, width * 9);
      result.emplace_back(4 * width, width);
      if (block == 0) result.emplace_back(4 * width, in);
      in = 4 * width;
    }
  }
  result.emplace_back(1000, 2048);
  return result;
}

Matrices bert_base() {
  Matrices result{{30522, 768}, {512, 768}, {2, 768}};
  for (int layer = 0; layer < 12; ++layer) {
    for (int k = 0; k < 4; ++k) result.emplace_back(768, 768);
    result.emplace_back(3072, 768);
    result.emplace_back(768, 3072);
  }
  result.emplace_back(768, 768);
  return result;
}

double largest(const at::Tensor& x) {
  return x.abs().max().item<double>();
}

}  // namespace

KernelRow measure_selection(const at::Tensor& gradient, double ratio, const Repeat& repeat) {
  const auto x = gradient.view(-1);
  const auto k = std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(x.numel()) * ratio));
  const std::span<const float> numbers(x.const_data_ptr<float>(), static_cast<std::size_t>(x.numel()));
  KernelRow row{fmt::format("topk, ratio {}", ratio),
                static_cast<double>(x.nbytes()) + 8.0 * static_cast<double>(k)};
  std::vector<std::uint32_t> indices;
  std::vector<float> values;
  row.ours = median_time(repeat, [&] {
    indices.clear();
    kernels::top_k(numbers, static_cast<std::size_t>(k), indices, values);
  });
  at::Tensor chosen;
  row.torchs = median_time(repeat, [&] {
    chosen = std::get<1>(x.abs().topk(k, 0, /*largest=*/true, /*sorted=*/false));
    x.index_select(0, chosen);
  });
  row.torchs_best = row.torchs;
  const auto ours = at::tensor(values).abs().sum(at::kDouble),
             theirs = x.index_select(0, chosen).abs().sum(at::kDouble);
  row.error = std::abs((ours - theirs).item<double>()) / theirs.item<double>();
  return row;
}

std::vector<KernelRow> measure_products(const at::Tensor& gradient, std::int64_t r, const Repeat& repeat) {
  const auto n = gradient.size(0), m = gradient.size(1);
  const auto matrix = gradient.clone();
  const auto p = at::randn({r, n}), q = at::randn({r, m});
  // As libtorch's programs hold them: n x r and m x r.
  const auto p_columns = p.t().contiguous(), q_columns = q.t().contiguous();
  const auto bytes = static_cast<double>(gradient.nbytes() + p.nbytes() + q.nbytes());
  auto found = at::empty_like(p), plain = at::empty({n, r});
  KernelRow left{"M Q, rank " + std::to_string(r), bytes};
  left.ours = median_time(repeat, [&] { project_left(matrix, q, found); });
  left.torchs = median_time(repeat, [&] { at::mm_out(plain, matrix, q_columns); });
  left.torchs_best = std::min(left.torchs, median_time(repeat, [&] { at::mm_out(plain, matrix, q.t()); }));
  left.error = largest(found.t() - plain) / largest(plain);
  found = at::empty_like(q), plain = at::empty({m, r});
  KernelRow right{"M^T P, rank " + std::to_string(r), bytes};
  right.ours = median_time(repeat, [&] { project_right(matrix, p, found); });
  auto rows = at::empty({r, m});
  right.torchs = median_time(repeat, [&] { at::mm_out(plain, matrix.t(), p_columns); });
  right.torchs_best = std::min(right.torchs, median_time(repeat, [&] { at::mm_out(rows, p, matrix); }));
  right.error = largest(found.t() - plain) / largest(plain);
  return {left, right};
}

KernelRow measure_bases(const std::string& network, std::int64_t r, std::int64_t independent,
                        std::uint64_t seed, const Repeat& repeat) {
  at::manual_seed(seed);
  std::vector<Orthogonalization> batch;
  std::vector<at::Tensor> columns;
  for (const auto& [n, m] : network == "resnet50" ? resnet50() : bert_base()) {
    const auto rank = std::min({r, n, m});
    for (const auto length : {n, m}) {
      auto vectors = at::randn({rank, length});
      const auto free = std::min(rank, independent);
      if (free < rank)
        vectors.narrow(0, free, rank - free).copy_(vectors.narrow(0, 0, 1).expand({rank - free, length}));
      batch.push_back({vectors, at::empty_like(vectors)});
      columns.push_back(vectors.t().contiguous());
    }
  }
  KernelRow row{"bases of " + network + ", rank " + std::to_string(r) +
                (independent < r ? " of " + std::to_string(independent) : "")};
  row.ours = median_time(repeat, [&] { orthogonalize(batch); });
  row.torchs = median_time(repeat, [&] {
    for (const auto& matrix : columns) at::linalg_qr(matrix);
  });
  row.torchs_best = std::min(row.torchs, median_time(repeat, [&] {
                               for (const auto& pair : batch) at::linalg_qr(pair.vectors.t());
                             }));
  for (const auto& [vectors, basis] : batch) {
    const auto wide = basis.to(at::kDouble);
    row.error = std::max(row.error, largest(at::mm(wide, wide.t()) - at::eye(wide.size(0), at::kDouble)));
  }
  return row;
}

}  // namespace acp::programs
