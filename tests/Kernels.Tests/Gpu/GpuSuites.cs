// The suites of Ops/ once more, on the kernels that ILGPU compiles: on the CPU (IlgpuTestDevice.cs).
using IptNative.Kernels.Tests.Ops;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class IlgpuActivationTests : ActivationTests<IlgpuTestDevice>;

public sealed class IlgpuAttentionProbabilitiesTests : AttentionProbabilitiesTests<IlgpuTestDevice>;

public sealed class IlgpuCachedAttentionTests : CachedAttentionTests<IlgpuTestDevice>;

public sealed class IlgpuCrossEntropyTests : CrossEntropyTests<IlgpuTestDevice>;

public sealed class IlgpuElementwiseTests : ElementwiseTests<IlgpuTestDevice>;

public sealed class IlgpuLayoutTests : LayoutTests<IlgpuTestDevice>;

public sealed class IlgpuLstmCellTests : LstmCellTests<IlgpuTestDevice>;

public sealed class IlgpuRmsNormTests : RmsNormTests<IlgpuTestDevice>;

/// <summary>Shorter than on the CPU: a thread of the emulation costs what a warp should.</summary>
public sealed class IlgpuPackedAttentionTests : PackedAttentionTests<IlgpuTestDevice>
{
    protected override int Longest => 37;
}

public sealed class IlgpuSubspaceOpsTests : SubspaceOpsTests<IlgpuTestDevice>
{
    protected override int LongRow => 2053;

    protected override int PowerOfTwo => 4096;
}

public sealed class IlgpuDequantisationTests : DequantisationTests<IlgpuTestDevice>;
