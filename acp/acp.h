// Everything that a training program needs: include this one.
#pragma once

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
