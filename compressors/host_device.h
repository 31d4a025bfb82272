// Functions that the processor and a GPU share are marked ACP_HOST_DEVICE: outside nvcc that is nothing.
#pragma once

#ifdef __CUDACC__
#define ACP_HOST_DEVICE __host__ __device__
#else
#define ACP_HOST_DEVICE
#endif
