// See report.h.
#include "benchmarks/acp-comm/report.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>

#include "acp/options.h"
#include "benchmarks/acp-comm/local_rates.h"
#include "comm/streams.h"

namespace acp::programs {

using nlohmann::json;

namespace {

using Kind = Collective::Kind;

json times(const Timing& t) {
  return {{"time_us", t.median * 1e6}, {"p50_us", t.median * 1e6}, {"p99_us", t.p99 * 1e6},
          {"mean_us", t.mean * 1e6},   {"min_us", t.min * 1e6},    {"max_us", t.max * 1e6},
          {"cpu_percent", t.cpu * 100}};
}

// Only these look at what messages cost.
bool has_link_cost(const Context& context) {
  return context.size() > 1 && (context.backend() == "mpi" || context.backend() == "tcp");
}

nlohmann::json link_json(const Context& context) {
  if (!has_link_cost(context)) return nullptr;
  const auto& link = context.link_cost();
  const auto gbps = [](double seconds_per_byte) {
    return seconds_per_byte > 0 ? nlohmann::json(8e-9 / seconds_per_byte) : nlohmann::json();
  };
  return {{"latency_us", link.latency * 1e6},
          {"gbps", gbps(link.seconds_per_byte)},
          {"hidden", link.hidden},
          {"local_gbps", gbps(link.local_seconds_per_byte)},
          {"cross_gbps", gbps(link.cross_seconds_per_byte)}};
}

}  // namespace

CommReport::CommReport(const Context& context, const CommOptions& options, JsonLines& json)
    : context_(context),
      options_(options),
      json_(json),
      console_(options.quiet || context.rank() != 0, options.json == "-"),
      channel_(context.open_channel()),
      repetitions_{options.iterations, options.warmup} {}

std::int64_t CommReport::collectives() {
  console_.line(
      fmt::format("{} ranks, {}, {}, {}, algorithm {}; medians of {} repetitions on the slowest rank; "
                  "bandwidths in Gbit/s",
                  context_.size(), context_.backend(), context_.device().str(), name_of(options_.type),
                  to_string(options_.algorithm), options_.iterations));
  if (has_link_cost(context_)) {
    const auto& link = context_.link_cost();
    console_.line(
        fmt::format("a message takes {:.1f} us, a link carries {:.3f} Gbit/s (ACP_LINK, or measured)",
                    link.latency * 1e6, 8e-9 / link.seconds_per_byte));
  }
  for (const auto kind : options_.ops) {
    if (!options_.out_of_place && !has_in_place(kind)) continue;
    const auto columns =
        fmt::format("{:>11} {:>11} {:>8} {:>8} {:>6}", "time us", "p99 us", "algbw", "busbw", "#wrong");
    console_.line(fmt::format("\n{:<14} {:>48} {:>48}", to_string(kind), "out of place", "in place"));
    console_.line(fmt::format("{:>14} {} {} {:>6}", "bytes", columns, columns, "cpu %"));
    for (const auto bytes : options_.sizes) size(kind, bytes);
  }
  return wrong_;
}

std::int64_t CommReport::tensors() {
  console_.line(
      fmt::format("{} ranks, {}, {}, algorithm {}; all messages of a step handed over at once; medians of {} "
                  "steps on the "
                  "slowest rank; bandwidths in Gbit/s",
                  context_.size(), context_.backend(), options_.model, to_string(options_.algorithm),
                  options_.iterations));
  console_.line(fmt::format("\n{:<28} {:>9} {:>8} {:>11} {:>11} {:>11} {:>8} {:>8} {:>6} {:>6}", "compressor",
                            "fusion MB", "messages", "bytes", "time us", "p99 us", "algbw", "busbw", "#wrong",
                            "cpu %"));
  for (const auto& compressor : options_.compressors) {
    const auto parameters = parameters_of(options_.model, compressor, options_.seed);
    for (const double fusion_mb : {options_.fusion_mb, 0.0}) step(compressor, parameters, fusion_mb);
  }
  return wrong_;
}

TrialSpec CommReport::spec(Kind kind, std::int64_t bytes, at::ScalarType type, bool in_place) const {
  TrialSpec spec;
  spec.kind = kind;
  spec.bytes = bytes;
  spec.type = type;
  spec.reduce = options_.reduce;
  spec.algorithm = options_.algorithm;
  spec.root = options_.root;
  spec.in_place = in_place;
  spec.seed = options_.seed;
  spec.device = context_.device();
  return spec;
}

std::optional<CommReport::Figures> CommReport::measure(Kind kind, std::int64_t bytes, bool in_place) {
  const bool wanted = in_place ? options_.in_place && has_in_place(kind) : options_.out_of_place;
  if (!wanted) return std::nullopt;
  Trial trial(spec(kind, bytes, options_.type, in_place), context_.rank(), context_.size());
  Figures figures;
  figures.bytes = trial.bytes();
  trial.reset();
  trial.perform(*channel_);
  figures.wrong = trial.wrong();
  trial.clear();
  figures.timing = time_together(*channel_, repetitions_, [&] { trial.perform(*channel_); });
  trial.reset();  // once more: what comes after many repetitions has been seen to be wrong elsewhere
  trial.perform(*channel_);
  figures.wrong = sum_together(*channel_, figures.wrong + trial.wrong());
  wrong_ += figures.wrong;
  return figures;
}

void CommReport::size(Kind kind, std::int64_t bytes) {
  console_.progress(fmt::format("{} of {} bytes", to_string(kind), bytes));
  const auto out = measure(kind, bytes, false), in = measure(kind, bytes, true);
  const auto bus = bus_factor(kind, context_.size());
  const auto columns = [&](const std::optional<Figures>& f) {
    if (!f) return fmt::format("{:>11} {:>11} {:>8} {:>8} {:>6}", "-", "-", "-", "-", "-");
    return fmt::format("{:>11.1f} {:>11.1f} {:>8.3f} {:>8.3f} {:>6}", f->timing.median * 1e6,
                       f->timing.p99 * 1e6, f->gbps(), f->gbps() * bus, f->wrong);
  };
  // In place is how gradients travel, so that speaks for the row where there is such a form.
  const auto& main = in ? *in : *out;
  console_.line(
      fmt::format("{:>14} {} {} {:>6.0f}", main.bytes, columns(out), columns(in), main.timing.cpu * 100));
  json more{{"dtype", name_of(options_.type)}, {"placement", in ? "in" : "out"}};
  if (kind == Kind::all_reduce || kind == Kind::reduce_scatter) more["reduce"] = name_of(options_.reduce);
  if (kind == Kind::broadcast) more["root"] = options_.root;
  if (in && out) {
    more["out_of_place"] = times(out->timing);
    more["out_of_place"].update(
        {{"algbw_gbps", out->gbps()}, {"busbw_gbps", out->gbps() * bus}, {"wrong", out->wrong}});
  }
  write(to_string(kind), main, bus, more);
}

void CommReport::step(const std::string& compressor, const std::vector<ParameterInfo>& parameters,
                      double fusion_mb) {
  console_.progress(fmt::format("{}, fusion {:g} MB", compressor, fusion_mb));
  const auto messages = messages_of(parameters, compressor, fusion_mb, context_.size(), options_.seed);
  std::vector<Trial> even = trials(messages.even), odd = trials(messages.odd);
  Figures figures;
  figures.bytes = static_cast<std::int64_t>(messages.payload());
  for (auto* step : {&even, &odd}) {
    for (auto& message : *step) {
      message.reset();
      message.perform(*channel_);
      figures.wrong += message.wrong();
      message.clear();
    }
  }
  bool turn = false;
  figures.timing = time_together(*channel_, repetitions_, [&] {
    std::vector<std::future<void>> pending;
    for (auto& message : turn ? odd : even) pending.push_back(message.start(*channel_));
    for (auto& done : pending) done.get();
    finish(context_.device());
    turn = !turn;
  });
  figures.wrong = sum_together(*channel_, figures.wrong);
  wrong_ += figures.wrong;
  const auto bus = bus_factor(Kind::all_reduce, context_.size());
  const auto count = static_cast<double>(even.size() + odd.size()) / 2;
  console_.line(fmt::format(
      "{:<28} {:>9g} {:>8g} {:>11} {:>11.1f} {:>11.1f} {:>8.3f} {:>8.3f} {:>6} {:>6.0f}", compressor,
      fusion_mb, count, figures.bytes, figures.timing.median * 1e6, figures.timing.p99 * 1e6, figures.gbps(),
      figures.gbps() * bus, figures.wrong, figures.timing.cpu * 100));
  write("all_reduce", figures, bus,
        {{"tensors", options_.model},
         {"compressor", compressor},
         {"fusion_mb", fusion_mb},
         {"messages", count},
         {"reduce", "average"}});
}

std::vector<Trial> CommReport::trials(const std::vector<Message>& messages) const {
  std::vector<Trial> result;
  result.reserve(messages.size());
  for (const auto& message : messages) {
    auto one = spec(Kind::all_reduce, message.bytes(), message.type, true);
    one.reduce = ReduceOp::average;
    result.emplace_back(one, context_.rank(), context_.size());
  }
  return result;
}

void CommReport::write(std::string_view op, const Figures& figures, double bus, const json& more) {
  json object{{"op", op},
              {"algorithm", to_string(options_.algorithm)},
              {"backend", context_.backend()},
              {"device", context_.device().is_cpu() ? "cpu" : "cuda"},
              {"world_size", context_.size()},
              {"bytes", figures.bytes},
              {"algbw_gbps", figures.gbps()},
              {"busbw_gbps", figures.gbps() * bus},
              {"wrong", figures.wrong},
              {"iterations", options_.iterations},
              {"warmup", options_.warmup},
              {"link", link_json(context_)},
              {"seed", options_.seed},
              {"version", ACP_VERSION}};
  object.update(times(figures.timing));
  object.update(more);
  json_.write(object);
}

void report_loops(const CommOptions& options) {
  Console console(options.quiet, options.json == "-");
  JsonLines lines("json", options.json);
  console.line(fmt::format("{:<24} {:>12} {:>10} {:>10}", "loop", "bytes", "Gbyte/s", "of memcpy"));
  for (const auto bytes : options.sizes) {
    const auto rates = loop_rates(std::max<std::int64_t>(bytes, 8), {options.iterations, options.warmup});
    for (const auto& [loop, rate] : rates) {
      const double share = rate / rates.front().rate;
      console.line(fmt::format("{:<24} {:>12} {:>10.2f} {:>10.2f}", loop, bytes, rate / 1e9, share));
      lines.write({{"loop", loop},
                   {"bytes", bytes},
                   {"gbytes_per_second", rate / 1e9},
                   {"of_memcpy", share},
                   {"iterations", options.iterations},
                   {"warmup", options.warmup},
                   {"version", ACP_VERSION}});
    }
  }
}

}  // namespace acp::programs
