// The instruction sets that the CPU kernels are built for.
#pragma once

namespace flowkit::cpu {

enum class Capability { generic, avx2, avx512 };

// The best of them that this machine runs.
Capability capability();

}  // namespace flowkit::cpu
