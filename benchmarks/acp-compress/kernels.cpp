// See kernels.h.
#include "benchmarks/acp-compress/kernels.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "benchmarks/acp-compress/torch_forms.h"
#include "comm/error.h"
#include "compressors/cuda/code.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/select.h"
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

double select_on_cpu(const at::Tensor& x, std::int64_t k, std::vector<float>& values, const Repeat& repeat) {
  const std::span<const float> numbers(x.const_data_ptr<float>(), static_cast<std::size_t>(x.numel()));
  std::vector<std::uint32_t> indices;
  return median_time(repeat, [&] {
    indices.clear();
    kernels::top_k(numbers, static_cast<std::size_t>(k), indices, values);
  });
}

double select_on_gpu(const at::Tensor& x, std::int64_t k, std::vector<float>& values, const Repeat& repeat) {
  const auto* const kernels = device::kernels_for(x);
  if (kernels == nullptr) throw ConfigError("this build of ACP has no kernels for GPUs: it found no nvcc");
  const auto indices = at::empty({k}, x.options().dtype(at::kInt)), chosen = at::empty({k}, x.options());
  const device::TopK part{
      x.data_ptr<float>(),      nullptr,   reinterpret_cast<std::uint32_t*>(indices.data_ptr<std::int32_t>()),
      chosen.data_ptr<float>(), x.numel(), k};
  const auto scratch = device::room(device::top_k_scratch(part), x);
  const double time = median_time(repeat, [&] {
    kernels->top_k({&part, 1}, device::bytes_of(scratch), device::place_of(x));
  });
  const auto found = chosen.cpu();
  values.assign(found.const_data_ptr<float>(), found.const_data_ptr<float>() + k);
  return time;
}

double largest(const at::Tensor& x) {
  return x.abs().max().item<double>();
}

}  // namespace

KernelRow measure_selection(const at::Tensor& gradient, double ratio, const Repeat& repeat) {
  const auto x = gradient.view(-1);
  const auto k = std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(x.numel()) * ratio));
  KernelRow row{fmt::format("topk, ratio {}", ratio),
                static_cast<double>(x.nbytes()) + 8.0 * static_cast<double>(k)};
  std::vector<float> values;
  row.ours = x.is_cpu() ? select_on_cpu(x, k, values, repeat) : select_on_gpu(x, k, values, repeat);
  at::Tensor chosen;
  row.torchs = median_time(repeat, [&] {
    chosen = std::get<1>(x.abs().topk(k, 0, /*largest=*/true, /*sorted=*/false));
    x.index_select(0, chosen);
  });
  row.torchs_best = row.torchs;
  const auto ours = at::tensor(values).abs().sum(at::kDouble),
             theirs = x.index_select(0, chosen).abs().sum(at::kDouble).cpu();
  row.error = std::abs((ours - theirs).item<double>()) / theirs.item<double>();
  return row;
}

std::vector<KernelRow> measure_products(const at::Tensor& gradient, std::int64_t r, const Repeat& repeat) {
  const auto n = gradient.size(0), m = gradient.size(1);
  const auto matrix = gradient.clone();
  const auto p = at::randn({r, n}, gradient.options()), q = at::randn({r, m}, gradient.options());
  // As libtorch's programs hold them: n x r and m x r.
  const auto p_columns = p.t().contiguous(), q_columns = q.t().contiguous();
  const auto bytes = static_cast<double>(gradient.nbytes() + p.nbytes() + q.nbytes());
  auto found = at::empty_like(p), plain = at::empty({n, r}, gradient.options());
  KernelRow left{"M Q, rank " + std::to_string(r), bytes};
  Factored factored{matrix, found, q, {}};
  left.ours = median_time(repeat, [&] { project_left({&factored, 1}); });
  left.torchs = median_time(repeat, [&] { at::mm_out(plain, matrix, q_columns); });
  left.torchs_best = std::min(left.torchs, median_time(repeat, [&] { at::mm_out(plain, matrix, q.t()); }));
  left.error = largest(found.t() - plain) / largest(plain);
  found = at::empty_like(q), plain = at::empty({m, r}, gradient.options());
  factored = {matrix, p, found, {}};
  KernelRow right{"M^T P, rank " + std::to_string(r), bytes};
  right.ours = median_time(repeat, [&] { project_right({&factored, 1}); });
  auto rows = at::empty({r, m}, gradient.options());
  right.torchs = median_time(repeat, [&] { at::mm_out(plain, matrix.t(), p_columns); });
  right.torchs_best = std::min(right.torchs, median_time(repeat, [&] { at::mm_out(rows, p, matrix); }));
  right.error = largest(found.t() - plain) / largest(plain);
  return {left, right};
}

std::vector<KernelRow> measure_device_kernels(const at::Tensor& gradient, const Repeat& repeat) {
  const auto* const kernels = device::kernels_for(gradient);
  if (kernels == nullptr) return {};
  const auto place = device::place_of(gradient);
  std::vector<KernelRow> rows;

  std::vector<at::Tensor> tensors;
  std::vector<device::Copy> pack, unpack;
  std::int64_t total = 0;
  for (const auto& [n, m] : resnet50()) {
    tensors.push_back(at::randn({n * m}, gradient.options()));
    total += n * m;
  }
  auto flat = at::empty({total}, gradient.options());
  float* to = flat.data_ptr<float>();
  for (const auto& tensor : tensors) {
    pack.push_back({tensor.data_ptr<float>(), to, tensor.numel()});
    unpack.push_back({to, tensor.data_ptr<float>(), tensor.numel()});
    to += tensor.numel();
  }
  constexpr auto floats = device::Type::float32;
  KernelRow packing{"pack resnet50", 2 * static_cast<double>(flat.nbytes())};
  packing.ours = median_time(repeat, [&] { kernels->copy(pack, floats, floats, 0.5F, place); });
  packing.error = largest(flat - at::cat(tensors) * 0.5);
  packing.torchs = packing.torchs_best = median_time(repeat, [&] { at::cat(tensors).mul_(0.5); });
  rows.push_back(packing);
  KernelRow unpacking{"unpack resnet50", packing.bytes};
  unpacking.ours = median_time(repeat, [&] { kernels->copy(unpack, floats, floats, 2, place); });
  unpacking.error = largest(at::cat(tensors) - flat * 2);
  unpacking.torchs = unpacking.torchs_best = median_time(repeat, [&] {
    std::int64_t from = 0;
    for (auto& tensor : tensors) {
      tensor.copy_(flat.narrow(0, from, tensor.numel())).mul_(2);
      from += tensor.numel();
    }
  });
  rows.push_back(unpacking);

  const auto x = gradient.view(-1);
  using Code = device::LevelCode;
  for (const int bits : {1, 4, 8}) {
    const Code code = bits == 1 ? Code{}
                                : Code{.levels = Code::Levels::dither,
                                       .numbers = Code::Numbers::norm,
                                       .bits = bits,
                                       .top = (1 << (bits - 1)) - 1,
                                       .bucket = 512,
                                       .stochastic = true};
    const auto size = device::CodePlaces(code, x.numel()).total;
    const auto bytes = device::room(static_cast<std::size_t>(size), x);
    const device::Encode part{x.data_ptr<float>(), nullptr, device::bytes_of(bytes), x.numel(), {1, 2}};
    const auto scratch = device::room(device::encode_scratch({&part, 1}, code), x);
    KernelRow row{bits == 1 ? "sign packing" : std::to_string(bits) + "-bit quantisation",
                  static_cast<double>(x.nbytes()) + static_cast<double>(size)};
    row.ours = median_time(repeat, [&] {
      kernels->encode({&part, 1}, code, device::bytes_of(scratch), place);
    });
    const auto padded = at::constant_pad_nd(x, {0, (512 - x.numel() % 512) % 512}).view({-1, 512});
    at::Tensor levels, norm;
    row.torchs = row.torchs_best = median_time(repeat, [&] {
      if (bits == 1) {
        levels = x.ge(0).to(at::kByte);
      } else {
        norm = padded.norm(2, {1}, true);
        levels = (padded.abs() / norm * code.top + at::rand_like(padded))
                     .floor()
                     .mul_(padded.sign())
                     .to(at::kChar);
      }
    });
    KernelRow back{row.name + ", decoded", row.bytes};
    const auto decoded = at::empty_like(x);
    device::Decode whole;
    whole.codes = device::bytes_of(bytes);
    whole.out = decoded.data_ptr<float>();
    whole.count = x.numel();
    back.ours = median_time(repeat, [&] { kernels->decode({&whole, 1}, code, 1, 0, {}, place); });
    back.torchs = back.torchs_best = median_time(repeat, [&] {
      bits == 1 ? levels.to(at::kFloat).mul_(2).sub_(1) : levels.to(at::kFloat).mul_(norm / code.top);
    });
    row.error = back.error =
        bits == 1
            ? decoded.ge(0).ne(x.ge(0)).to(at::kFloat).mean().item<double>()
            : largest(
                  (at::constant_pad_nd(decoded - x, {0, padded.numel() - x.numel()}).view({-1, 512}) / norm));
    rows.push_back(back);
    rows.push_back(row);
  }
  return rows;
}

KernelRow measure_bert(std::int64_t r, std::uint64_t seed, const Repeat& repeat) {
  at::manual_seed(seed);
  const auto spec = "acpsgd:rank=" + std::to_string(r);
  std::vector<at::Tensor> gradients;
  std::vector<TorchForm> forms;
  for (const auto& [n, m] : bert_base()) gradients.push_back(at::randn({n, m}).to(repeat.device));
  forms.reserve(gradients.size());
  for (const auto& gradient : gradients) forms.push_back(*torch_form(spec, "residual", gradient, false));
  const auto ours = measure_exchange(spec, "residual", seed, gradients, repeat);
  KernelRow row{"acpsgd of bert-base, rank " + std::to_string(r)};
  row.ours = ours.times.encode + ours.times.decode;
  row.torchs = row.torchs_best = median_time(repeat, [&] {
    for (const auto& form : forms) form.encode();
    for (const auto& form : forms) form.decode();
  });
  row.error = ours.error;
  return row;
}

KernelRow measure_bases(const std::string& network, std::int64_t r, std::int64_t independent,
                        std::uint64_t seed, const Repeat& repeat) {
  at::manual_seed(seed);
  std::vector<Orthogonalization> batch;
  std::vector<at::Tensor> columns;
  for (const auto& [n, m] : network == "resnet50" ? resnet50() : bert_base()) {
    const auto rank = std::min({r, n, m});
    for (const auto length : {n, m}) {
      auto vectors = at::randn({rank, length}).to(repeat.device);
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
    row.error = std::max(row.error, largest(at::mm(wide, wide.t()) - at::eye(wide.size(0), wide.options())));
  }
  return row;
}

}  // namespace acp::programs
