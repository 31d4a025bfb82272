// acp-compress: every compressor alone: how fast it encodes and decodes, how small its code is, how far off.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "benchmarks/acp-compress/kernels.h"
#include "benchmarks/acp-compress/levels.h"
#include "benchmarks/acp-compress/measure.h"
#include "benchmarks/acp-compress/options.h"
#include "benchmarks/acp-compress/torch_forms.h"
#include "benchmarks/common/output.h"
#include "benchmarks/common/program.h"
#include "comm/cuda/cuda.h"
#include "compressors/registry.h"

using namespace acp::programs;
using nlohmann::json;

namespace {

// Methods whose decompositions take minutes on large matrices.
bool too_slow(const std::string& spec, std::int64_t bytes) {
  return acp::parse_spec(spec).at(0).name == "atomo" && bytes > 2'000'000;
}

class Report {
 public:
  Report(const CompressOptions& options)
      : options_(options), console_(options.quiet, options.json == "-"), json_("json", options.json) {
    repeat_ = {options.iterations, options.warmup,
               options.device == "cuda" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU)};
  }

  void run() {
    for (const auto bytes : options_.sizes) {
      const auto gradient = make_gradient(bytes, options_.seed, repeat_.device);
      memcpy_ = memcpy_rate(gradient, repeat_);
      console_.line(fmt::format(
          "\n{} x {} floats, {:.1f} MB; memcpy reads and writes {:.2f} GB/s; threads: {}", gradient.size(0),
          gradient.size(1), static_cast<double>(gradient.nbytes()) / 1e6, memcpy_ / 1e9, options_.threads));
      console_.line(fmt::format("{:<32} {:>10} {:>9} {:>9} {:>7} {:>9} {:>7} {:>7} {:>9} {:>9}{}",
                                "compressor", "bits/elem", "error", "encode", "of", "decode", "of", "both of",
                                "encode", "decode", options_.versus_torch ? "   torch/ours" : ""));
      console_.line(fmt::format("{:<32} {:>10} {:>9} {:>9} {:>7} {:>9} {:>7} {:>7} {:>9} {:>9}{}", "", "", "",
                                "GB/s", "memcpy", "GB/s", "memcpy", "memcpy", "ms", "ms",
                                options_.versus_torch ? "   enc+dec" : ""));
      for (const auto& spec : options_.compressors) compressor(spec, gradient);
      if (options_.versus_torch && measures({"topk", "globaltopk"})) {
        kernel(measure_selection(gradient, 0.01, repeat_), gradient.nbytes());
      }
      if (options_.versus_torch && !repeat_.device.is_cpu()) {
        for (const auto& row : measure_device_kernels(gradient, repeat_)) kernel(row, gradient.nbytes());
      }
      if (options_.versus_torch && measures({"acpsgd", "powersgd"})) {
        for (const auto& row : measure_products(gradient, 4, repeat_)) kernel(row, gradient.nbytes());
      }
    }
    if (!options_.versus_torch || !measures({"acpsgd", "powersgd"})) return;
    for (const auto* network : {"resnet50", "bert-base"}) {
      for (const std::int64_t rank : {4, 32})
        kernel(measure_bases(network, rank, rank, options_.seed, repeat_), 0);
    }
    kernel(measure_bases("resnet50", 4, 2, options_.seed, repeat_), 0);
    if (!repeat_.device.is_cpu()) kernel(measure_bert(4, options_.seed, repeat_), 0);
  }

 private:
  bool measures(const std::vector<std::string>& names) const {
    return std::ranges::any_of(options_.compressors, [&](const std::string& spec) {
      return std::ranges::find(names, acp::parse_spec(spec).at(0).name) != names.end();
    });
  }

  void compressor(const std::string& spec, const at::Tensor& gradient) {
    if (too_slow(spec, static_cast<std::int64_t>(gradient.nbytes()))) {
      const char* const why = "decomposing a matrix of this size takes minutes";
      console_.line(fmt::format("{:<32} left out: {}", spec, why));
      write({{"compressor", spec}, {"part", "left out"}, {"bytes", gradient.nbytes()}, {"reason", why}});
      return;
    }
    console_.progress(spec);
    const auto memory = acp::CompressorFactory(spec, {options_.memory, options_.seed}).memory();
    row(spec, memory, "exchange", measure_exchange(spec, options_.memory, options_.seed, {gradient}, repeat_),
        gradient, torch_times(spec, memory, gradient, /*bare=*/false));
    const auto bare = measure_quantiser(spec, memory == "residual", options_.seed, gradient, repeat_);
    if (bare)
      row(spec, memory, "quantiser", *bare, gradient, torch_times(spec, memory, gradient, /*bare=*/true));
    if (!options_.levels.empty() && has_levels(spec)) levels(spec, memory, gradient);
  }

  void levels(const std::string& spec, const std::string& memory, const at::Tensor& gradient) {
    const double first = options_.levels[0], second = options_.levels[1];
    const auto times = measure_levels(spec, first, second, memory, options_.seed, gradient, repeat_);
    console_.line(
        fmt::format("  {} and of that {}: encode {:.3f} ms, {} alone {:.3f}, {} alone {:.3f}: the second "
                    "level costs {:.2f} of "
                    "compressing again",
                    first, second, times.both * 1e3, first, times.first * 1e3, second, times.second * 1e3,
                    times.of_twice()));
    write({{"compressor", spec},
           {"memory", memory},
           {"part", "levels"},
           {"bytes", gradient.nbytes()},
           {"levels", options_.levels},
           {"first_ms", times.first * 1e3},
           {"second_ms", times.second * 1e3},
           {"both_ms", times.both * 1e3},
           {"second_of_twice", times.of_twice()}});
  }

  std::optional<Times> torch_times(const std::string& spec, const std::string& memory,
                                   const at::Tensor& gradient, bool bare) const {
    if (!options_.versus_torch) return std::nullopt;
    const auto form = torch_form(spec, memory, gradient, bare);
    if (!form) return std::nullopt;
    return median_times(
        repeat_, [] {}, form->encode, form->decode);
  }

  void row(const std::string& spec, const std::string& memory, const std::string& part,
           const Measured& measured, const at::Tensor& gradient, const std::optional<Times>& torch) {
    const auto& times = measured.times;
    const double encode = measured.encode_bytes / times.encode, decode = measured.decode_bytes / times.decode;
    const double both =
        (measured.encode_bytes + measured.decode_bytes) / (times.encode + times.decode) / memcpy_;
    const double bits = 8 * measured.payload / static_cast<double>(gradient.numel());
    const double gain = torch ? (torch->encode + torch->decode) / (times.encode + times.decode) : 0;
    console_.line(fmt::format(
        "{:<32} {:>10.3f} {:>9.2g} {:>9.2f} {:>7.2f} {:>9.2f} {:>7.2f} {:>7.2f} {:>9.3f} {:>9.3f}{}",
        part == "exchange" ? spec : "  bare quantiser", bits, measured.error, encode / 1e9, encode / memcpy_,
        decode / 1e9, decode / memcpy_, both, times.encode * 1e3, times.decode * 1e3,
        torch ? fmt::format("   {:.1f}x", gain) : ""));
    json object{{"compressor", spec},
                {"memory", memory},
                {"part", part},
                {"bytes", gradient.nbytes()},
                {"elements", gradient.numel()},
                {"threads", options_.threads},
                {"bits_per_element", bits},
                {"relative_error", measured.error},
                {"encode_ms", times.encode * 1e3},
                {"decode_ms", times.decode * 1e3},
                {"encode_gbps", encode / 1e9},
                {"decode_gbps", decode / 1e9},
                {"memcpy_gbps", memcpy_ / 1e9},
                {"encode_of_memcpy", encode / memcpy_},
                {"decode_of_memcpy", decode / memcpy_},
                {"both_of_memcpy", both}};
    object["torch_encode_ms"] = torch ? json(torch->encode * 1e3) : json();
    object["torch_decode_ms"] = torch ? json(torch->decode * 1e3) : json();
    object["speedup"] = torch ? json(gain) : json();
    write(object);
  }

  void kernel(const KernelRow& row, std::uint64_t bytes) {
    const double rate = row.bytes / row.ours;
    console_.line(fmt::format(
        "{:<32} {:>10} {:>9.2g} {:>9} {:>7} {:>9} {:>7} {:>7} {:>9.3f} {:>9}   {:.1f}x (best layout {:.1f}x)",
        row.name, "", row.error, row.bytes > 0 ? fmt::format("{:.2f}", rate / 1e9) : "",
        row.bytes > 0 ? fmt::format("{:.2f}", rate / memcpy_) : "", "", "", "", row.ours * 1e3, "",
        row.torchs / row.ours, row.torchs_best / row.ours));
    json object{{"compressor", row.name},
                {"part", "kernel"},
                {"threads", options_.threads},
                {"ms", row.ours * 1e3},
                {"torch_ms", row.torchs * 1e3},
                {"speedup", row.torchs / row.ours},
                {"torch_best_ms", row.torchs_best * 1e3},
                {"speedup_best", row.torchs_best / row.ours},
                {"error", row.error}};
    object["bytes"] = bytes > 0 ? json(bytes) : json();
    object["of_memcpy"] = row.bytes > 0 ? json(rate / memcpy_) : json();
    write(object);
  }

  void write(json object) {
    object["seed"] = options_.seed;
    object["device"] = options_.device;
    object["version"] = ACP_VERSION;
    json_.write(object);
  }

  const CompressOptions& options_;
  Repeat repeat_;
  Console console_;
  JsonLines json_;
  double memcpy_ = 0;
};

int measure(const CompressOptions& options) {
  if (options.device == "cuda") acp::cuda::require();
  const c10::NoGradGuard no_grad;
  at::set_num_threads(options.threads);
  Report(options).run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("acp-compress", [&] {
    CompressOptions options;
    std::string help;
    before_start([&] { options = parse_compress_options(argc, argv, help); });
    // One process measures; under a launcher the others leave it the machine.
    if (launcher_rank() != 0) return 0;
    if (options.action == CompressOptions::Action::help) {
      std::cout << help << std::flush;
      return 0;
    }
    if (options.action == CompressOptions::Action::version) {
      std::cout << "acp-compress " << ACP_VERSION << std::endl;
      return 0;
    }
    return measure(options);
  });
}
