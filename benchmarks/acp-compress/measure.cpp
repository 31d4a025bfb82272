// See measure.h.
#include "benchmarks/acp-compress/measure.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "benchmarks/common/measure.h"
#include "comm/error.h"
#include "comm/local/local.h"
#include "comm/wire_communicator.h"
#include "compressors/coded_method.h"
#include "compressors/registry.h"
#include "fusion/plan.h"

namespace acp::programs {

namespace {

double relative_error(const at::Tensor& result, const at::Tensor& gradient) {
  const double norm = gradient.norm().item<double>();
  return norm > 0 ? (result.view(gradient.sizes()) - gradient).norm().item<double>() / norm : 0;
}

Bucket make_bucket(const std::vector<at::Tensor>& gradients) {
  std::vector<ParameterInfo> infos;
  Plan plan(1);
  for (const auto& gradient : gradients) {
    plan[0].push_back(static_cast<int>(infos.size()));
    infos.push_back(
        {"matrix" + std::to_string(infos.size()), gradient.sizes().vec(), at::kFloat, gradient.device()});
  }
  return std::move(allocate(plan, infos).at(0));
}

// What a collective of a single rank on a GPU does.
void perform_alone(const Collective& op) {
  if (op.out.defined() && !op.out.is_same(op.in)) op.out.copy_(op.in.view(op.out.sizes()));
}

// One rank's exchange: work between collectives is timed, the collectives are performed.
struct Step {
  double encode = 0, decode = 0, payload = 0;
};

Step run_step(Compressor& compressor, Bucket& bucket, const StepContext& context,
              Communicator& communicator) {
  Step step;
  const auto device = bucket.grads.device();
  double began = seconds(device);
  compressor.prepare(bucket, context);
  auto exchange = compressor.exchange(bucket, context);
  while (auto op = exchange.advance()) {
    step.encode += seconds(device) - began;  // so what follows the last collective is left for decode
    step.payload += op->in.defined() ? static_cast<double>(op->in.nbytes()) : 0;
    device.is_cpu() ? perform(communicator, *std::move(op)) : perform_alone(*op);
    began = seconds(device);
  }
  step.decode = seconds(device) - began;
  return step;
}

}  // namespace

double seconds(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return percentile(times, 0.5);
}

double median_time(const Repeat& repeat, const std::function<void()>& work) {
  return median_times(
             repeat, [] {}, work, [] {})
      .encode;
}

Times median_times(const Repeat& repeat, const std::function<void()>& restore,
                   const std::function<void()>& encode, const std::function<void()>& decode) {
  std::vector<double> encodes, decodes;
  for (std::int64_t i = 0; i < repeat.warmup + repeat.iterations; ++i) {
    restore();
    const double began = seconds(repeat.device);
    encode();
    const double between = seconds(repeat.device);
    decode();
    const double end = seconds(repeat.device);
    if (i < repeat.warmup) continue;
    encodes.push_back(between - began);
    decodes.push_back(end - between);
  }
  return {median(encodes), median(decodes)};
}

at::Tensor make_gradient(std::int64_t bytes, std::uint64_t seed, at::Device device) {
  const std::int64_t n = bytes / 4;
  auto rows = static_cast<std::int64_t>(std::sqrt(static_cast<double>(n)));
  while (rows * rows > n) --rows;
  at::manual_seed(seed);
  const auto scale = [](at::IntArrayRef shape) { return at::exp(at::randn(shape) / 2); };
  return (at::randn({rows, n / rows}) * scale({rows, 1}) * scale({1, n / rows})).to(device);
}

double memcpy_rate(const at::Tensor& gradient, const Repeat& repeat) {
  const auto to = at::zeros_like(gradient);
  const double time = median_time(repeat, [&] {
    if (gradient.is_cpu()) {
      std::memcpy(to.data_ptr(), gradient.const_data_ptr(), gradient.nbytes());
    } else {
      to.copy_(gradient);
    }
  });
  return 2 * static_cast<double>(gradient.nbytes()) / time;
}

Measured measure_exchange(const std::string& spec, const std::string& memory, std::uint64_t seed,
                          const std::vector<at::Tensor>& gradients, const Repeat& repeat,
                          const std::vector<double>& probes) {
  const CompressorFactory factory(spec, {memory, seed});
  auto bucket = make_bucket(gradients);
  std::vector<at::Tensor> flat;
  flat.reserve(gradients.size());
  for (const auto& one : gradients) flat.push_back(one.view(-1));
  const auto gradient = at::cat(flat);
  if (factory.wants_squares()) {  // as of two samples
    bucket.squares = gradient.square() / 2;
    bucket.has_squares.assign(gradients.size(), 1);
  }
  const auto compressor = factory.make(bucket);
  if (!probes.empty()) compressor->set_probes(probes);
  WireCommunicator communicator(std::move(local::transports(1).at(0)), {});
  Measured measured;
  std::vector<double> encodes, decodes;
  for (std::int64_t i = 0; i < repeat.warmup + repeat.iterations; ++i) {
    bucket.grads.copy_(gradient);
    std::ranges::fill(bucket.used, std::uint8_t{1});
    const StepContext context{0, 1, static_cast<std::uint64_t>(i), seed};
    const auto step = run_step(*compressor, bucket, context, communicator);
    if (i == 0) measured.error = relative_error(bucket.grads, gradient);
    if (i < repeat.warmup) continue;
    encodes.push_back(step.encode);
    decodes.push_back(step.decode);
    measured.payload += step.payload / static_cast<double>(repeat.iterations);
  }
  measured.times = {median(encodes), median(decodes)};
  const auto dense = static_cast<double>(gradient.nbytes());
  measured.encode_bytes = (factory.memory() == "none" ? 1 : 3) * dense + measured.payload;
  measured.decode_bytes = measured.payload + dense;
  return measured;
}

std::optional<Measured> measure_quantiser(const std::string& spec, bool keep, std::uint64_t seed,
                                          const at::Tensor& gradient, const Repeat& repeat) {
  if (!gradient.is_cpu()) return std::nullopt;
  const auto parts = parse_spec(spec);
  const auto shape = gradient.sizes().vec();
  std::unique_ptr<Quantiser> quantiser;
  try {
    if (parts.size() == 1) quantiser = make_quantiser(parts[0], shape);
  } catch (const ConfigError&) {  // the specification has been checked, so this says: no quantiser
  }
  if (!quantiser) return std::nullopt;
  const auto input = gradient.clone(), output = at::zeros_like(gradient);
  const auto floats = [](const at::Tensor& x) {
    return std::span(x.data_ptr<float>(), static_cast<std::size_t>(x.numel()));
  };
  std::vector<std::byte> code(quantiser->bytes(gradient.numel()));
  StepContext context{0, 1, 0, seed};
  const Block block{"matrix", shape, &context};
  const auto encode = [&] {
    quantiser->prepare(floats(input));
    keep ? quantiser->encode_and_keep(floats(input), block, code)
         : quantiser->encode(floats(input), block, code);
    ++context.step;
  };
  const auto decode = [&] { quantiser->decode(code, floats(output)); };
  Measured measured;
  encode();
  decode();
  measured.error = relative_error(output, gradient);
  measured.times = median_times(
      repeat, [&] { input.copy_(gradient); }, encode, decode);
  const auto dense = static_cast<double>(gradient.nbytes());
  measured.payload = static_cast<double>(code.size());
  measured.encode_bytes = (keep ? 2 : 1) * dense + measured.payload;
  measured.decode_bytes = measured.payload + dense;
  return measured;
}

}  // namespace acp::programs
