// Everything that a training program needs: include this one.
#pragma once

#if __cplusplus < 202002L
#error "ACP needs C++20: compile with -std=c++20 (Meson: cpp_std=c++20; CMake: CMAKE_CXX_STANDARD 20)"
#endif

#include "acp/broadcast.h"
#include "acp/checkpoint.h"
#include "acp/collectives.h"
#include "acp/compressed.h"
#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "acp/gradient_reducer.h"
#include "acp/options.h"
#include "acp/trace.h"
#include "comm/error.h"
