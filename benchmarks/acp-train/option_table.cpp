// What acp-train's options are called, what they take and what --help says of them.
#include "benchmarks/acp-train/options.h"

namespace acp::programs {

std::vector<Option> train_option_table() {
  auto table = common_options();
  const std::vector<Option> own = {
      {"name", "TEXT", "", "of this run, for the JSON", "General"},
      {"project", "TEXT", "", "that this run belongs to, for the JSON", "General"},
      {"preset", "NAME", "", "a published job; options given beside it win (--list-presets)", "General"},
      {"list-models", "", "", "print name, parameter count, tensors and keys of each model and exit",
       "General"},
      {"list-presets", "", "", "print the presets and exit", "General"},
      {"check-data", "DIR", "", "look for the data sets in DIR, read them through and exit", "General"},

      {"model", "SPEC", "mnist", "NAME[:key=value,...]", "Job"},
      {"data", "DIR", "",
       "a set's folder, the folder of the sets, or data of no folder: synthetic, markov[:key=value,...] "
       "(default: ACP_DATA, else built-in data)",
       "Job"},
      {"data-set", "NAME", "", "which of the folder's sets (default: the one that the model prefers)", "Job"},
      {"no-augment", "", "", "take training samples as they are", "Job"},
      {"seq-len", "N", "", "length of a sequence: the model's key seq", "Job"},
      {"epochs", "N", "", "passes over the training set (default: the model's, as --list-models prints)",
       "Job"},
      {"iterations", "N", "", "measured steps instead of epochs", "Job"},
      {"warmup", "N", "0", "first steps, not measured (besides --iterations, part of --epochs)", "Job"},
      {"batch-size", "N", "", "samples per rank and backward pass (default: the model's)", "Job"},
      {"eval-batch-size", "N", "", "samples per rank and batch of an evaluation (default: the model's)",
       "Job"},
      {"test-batch-size", "N", "", "the same for the test at the end (default: --eval-batch-size)", "Job"},
      {"eval-every", "N", "0", "steps between evaluations; 0 = at the end of every epoch", "Job"},
      {"no-eval", "", "", "train only", "Job"},

      {"optimizer", "SPEC", "",
       "adagrad, adam, adamw, lamb, lbfgs, rmsprop, sgd; keys as in sgd:nesterov=on (default: the model's)",
       "Optimizer"},
      {"lr", "X", "",
       "learning rate, not scaled by the number of ranks (default: the model's; the optimizer's with another "
       "optimizer)",
       "Optimizer"},
      {"scale-lr", "", "", "multiply --lr by the number of ranks", "Optimizer"},
      {"momentum", "X", "", "of sgd and rmsprop (default: the model's; 0 with another optimizer)",
       "Optimizer"},
      {"weight-decay", "X", "", "default: the optimizer's, 0 but for adamw (0.01)", "Optimizer"},
      {"no-decay", "LIST", "",
       "parameters without weight decay: bias, norm (all of normalisation layers), or bias,norm",
       "Optimizer"},
      {"label-smoothing", "X", "0", "share of a target that is spread over all classes, 0 to 1", "Optimizer"},
      {"lr-schedule", "SPEC", "",
       "constant, cosine, exponential, inverse, inverse-sqrt, linear, milestones, piecewise, plateau, step "
       "(default: the model's)",
       "Optimizer"},
      {"lr-warmup", "N", "0", "steps (or epochs, as in 5e) in which the rate rises linearly", "Optimizer"},
      {"clip", "X", "", "largest global norm of the reduced gradient; 0 = off (default: the model's)",
       "Optimizer"},
      {"clip-local", "X", "0", "the same for this rank's gradient before compression; nothing overlaps then",
       "Optimizer"},
      {"backward-passes", "N", "1", "batches whose gradients are averaged on each rank before a step",
       "Optimizer"},

      {"compressor", "SPEC", "none", "name[:key=value,...], e.g. acpsgd:rank=4", "Reduction"},
      {"memory", "NAME", "", "error feedback: none, residual, dgc (default: the compressor's own)",
       "Reduction"},
      {"granularity", "NAME", "",
       "what sparsifiers and quantisers code together: layer, bucket, model (default: the compressor's own)",
       "Reduction"},
      {"nonfinite", "NAME", "auto",
       "NaN or infinity in a gradient: error, skip (the step, on all ranks), auto (error unless dense)",
       "Reduction"},
      {"policy", "SPEC", "uniform",
       "how settings differ between tensors and steps: uniform, layer-size, epoch, size-epoch, lgreco, "
       "gravac, "
       "accordion; name[:key=value,...] (docs/policies.md)",
       "Reduction"},
      {"group-splits", "LIST", "",
       "of LEGACY's policies: sizes at which groups of tensors begin, 1000,100000", "Reduction"},
      {"group-compressions", "LIST", "",
       "of LEGACY's policies: percentages, \"50,10,1\", or rows of them for phases, \"50,10,1;10,1,0.1\"",
       "Reduction"},
      {"fusion-mb", "X", "25",
       "MB of gradients per message; 0 = one tensor each; auto = by the cost of the link", "Reduction"},
      {"no-overlap", "", "", "start reducing after the backward pass", "Reduction"},
      {"compression-error", "", "",
       "measure what compression leaves out of each step, relative; costs passes over the gradients",
       "Reduction"},
      {"backend", "NAME", "auto", "auto, mpi, tcp, nccl, local (auto: ACP_BACKEND, else by the launcher)",
       "Reduction"},
      {"algorithm", "NAME", "auto", "of collectives: auto, ring, native, doubling, halving, hierarchical",
       "Reduction"},
      {"device", "NAME", "cpu", "cpu or cuda (the default with nccl)", "Reduction"},

      {"checkpoint", "DIR", "", "write checkpoints there", "Checkpoints"},
      {"checkpoint-every", "N", "0", "steps between checkpoints; 0 = at the end of every epoch",
       "Checkpoints"},
      {"resume", "", "", "go on from the checkpoint in --checkpoint", "Checkpoints"},

      {"log-every", "N", "0", "print a line every N steps; 0 = per epoch only", "Output"},
      {"metrics", "FILE", "", "append one JSON line per logged step and per epoch", "Output"},
      {"trace", "FILE", "",
       "write a timeline of all ranks for Perfetto or chrome://tracing (ACP_TRACE writes one of each rank)",
       "Output"}};
  table.insert(table.end(), own.begin(), own.end());
  return table;
}

}  // namespace acp::programs
