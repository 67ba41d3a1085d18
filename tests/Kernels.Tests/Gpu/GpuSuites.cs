// The suites of Ops/ once more, on the kernels that ILGPU compiles: on the CPU (IlgpuTestDevice.cs).
using IptNative.Kernels.Tests.Ops;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class IlgpuActivationTests : ActivationTests<IlgpuTestDevice>;

public sealed class IlgpuAttentionProbabilitiesTests : AttentionProbabilitiesTests<IlgpuTestDevice>;

public sealed class IlgpuCrossEntropyTests : CrossEntropyTests<IlgpuTestDevice>;

public sealed class IlgpuElementwiseTests : ElementwiseTests<IlgpuTestDevice>;

public sealed class IlgpuLayoutTests : LayoutTests<IlgpuTestDevice>;

public sealed class IlgpuRmsNormTests : RmsNormTests<IlgpuTestDevice>;
