// The devices that the ILGPU halves are tested on: the emulation where the package is missing, ILGPU's own CPU accelerator where it is there.
using ILGPU.Runtime;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;
#if !ILGPU_EMULATION
using ILGPU;
using ILGPU.Runtime.CPU;
#endif

namespace IptNative.Kernels.Tests.Gpu;

/// <summary>Kernels on host threads. Memory is host memory, so copies are plain.</summary>
internal sealed unsafe class HostAcceleratorDevice(Accelerator accelerator) : IlgpuDevice(accelerator, ThreadsOfGroup, owns: false, ComputeType.F32)
{
    /// <summary>A warp of 4, as ILGPU's own default on the CPU: a switch of threads is what costs here.</summary>
    public const int Lanes = 4;

    /// <summary>Two warps, so that what crosses warps is seen.</summary>
    public const int ThreadsOfGroup = 2 * Lanes;

    public override string Name => "ilgpu";

    /// <summary>For tests that look past the seam.</summary>
    public Accelerator Accelerator { get; } = accelerator;

    public override void Upload(ReadOnlySpan<byte> source, nint target) => source.CopyTo(new Span<byte>((void*)target, source.Length));

    public override void Download(nint source, Span<byte> target) => new ReadOnlySpan<byte>((void*)source, target.Length).CopyTo(target);

    protected override MemoryBuffer AllocateRaw(Accelerator accelerator, long length, int elementSize, string purpose) => accelerator.AllocateRaw(length, elementSize);
}

public sealed class IlgpuTestDevice : ITestDevice
{
#if ILGPU_EMULATION
    // 3 multiprocessors: grids are small, and groups walk on.
    private static readonly Accelerator Shared = new(HostAcceleratorDevice.Lanes, HostAcceleratorDevice.ThreadsOfGroup, 3);
#else
    private static readonly Context SharedContext = Context.Create(builder => builder.CPU(new CPUDevice(HostAcceleratorDevice.Lanes, 2, 1)).Optimize(OptimizationLevel.O2));
    private static readonly Accelerator Shared = SharedContext.CreateCPUAccelerator(0);
#endif

    public static ComputeDevice Create(int threads) => new HostAcceleratorDevice(Shared);
}
