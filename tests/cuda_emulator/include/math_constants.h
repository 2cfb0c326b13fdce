// The constants of CUDA's header of this name that kernels use.

#pragma once

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#define CUDART_LN2_F 0.693147181f
#define CUDART_LN2 0.69314718055994531
#define CUDART_L2E_F 1.442695041f
#define CUDART_L2E 1.4426950408889634
