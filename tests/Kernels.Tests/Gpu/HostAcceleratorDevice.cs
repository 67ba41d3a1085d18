// The device that the ILGPU halves are tested on: the emulation where the package is missing, ILGPU's own CPU accelerator where it is there.
using System.Diagnostics;
using ILGPU.Runtime;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;
#if !ILGPU_EMULATION
using ILGPU;
using ILGPU.Runtime.CPU;
#endif

namespace IptNative.Kernels.Tests.Gpu;

/// <summary>Kernels on host threads. Memory is host memory, so copies are plain; but tensors say addresses at which the host has nothing, as a GPU's do.</summary>
internal sealed unsafe class HostAcceleratorDevice(Accelerator accelerator, ComputeType compute) : IlgpuDevice(accelerator, ThreadsOfGroup, owns: false, compute)
{
    /// <summary>A warp of 4, as ILGPU's own default on the CPU: a switch of threads is what costs here.</summary>
    public const int Lanes = 4;

    /// <summary>Two warps, so that what crosses warps is seen.</summary>
    public const int ThreadsOfGroup = 2 * Lanes;

    // Beyond what a process can map; whoever takes such an address for the host's dies of it.
    private static readonly nint Shift = unchecked((nint)(1L << 56));

    public override string Name => "ilgpu";

#if ILGPU_EMULATION
    // 3 multiprocessors: grids are small, and groups walk on.
    private static readonly Accelerator Shared = new(Lanes, ThreadsOfGroup, 3) { PlaceThread = ThreadPlace.Stay };
#else
    private static readonly Context SharedContext = Context.Create(builder => builder.CPU(new CPUDevice(Lanes, 2, 1)).Optimize(OptimizationLevel.O2));
    private static readonly Accelerator Shared = SharedContext.CreateCPUAccelerator(0);
#endif

    /// <summary>For tests that look past the seam.</summary>
    public Accelerator Accelerator { get; } = accelerator;

    /// <summary>Thrown by every copy to it from when it is set, as a GPU that has failed does.</summary>
    public Exception? Failure { get; set; }

    public override void Upload(ReadOnlySpan<byte> source, nint target)
    {
        if (Failure is { } failure)
            throw failure;
        source.CopyTo(new Span<byte>((void*)(target - Shift), source.Length));
    }

    public override void Download(nint source, Span<byte> target) => new ReadOnlySpan<byte>((void*)(source - Shift), target.Length).CopyTo(target);

    /// <summary>Where the host has a tensor's memory, for one who knows what he does.</summary>
    public static nint HostAddress(Tensor tensor) => tensor.Address - Shift;

    protected override nint AddressShift => Shift;

    /// <summary>Memory that it lets itself be taken for.</summary>
    public long Memory { get; set; } = 1L << 30;

    public override long? FreeBytes => Memory - HeldBytes;

    public override DeviceTimeline CreateTimeline() => new HostTimeline();

    protected override MemoryBuffer AllocateRaw(Accelerator accelerator, long length, int elementSize, string purpose) =>
        HeldBytes + length * elementSize <= Memory ? accelerator.AllocateRaw(length, elementSize) : throw NoRoom(purpose, length * elementSize, Memory - HeldBytes, Memory, null);

    /// <summary>A device of its own on the one accelerator that all tests share.</summary>
    public static HostAcceleratorDevice Create(ComputeType compute = ComputeType.F32, long memory = 1L << 30) => new(Shared, compute) { Memory = memory };

    // Work here is done when a launch returns, so the host's clock is the device's.
    private sealed class HostTimeline : DeviceTimeline
    {
        private readonly List<long> _marks = [];

        public override void Restart()
        {
            _marks.Clear();
            Mark();
        }

        public override int Mark()
        {
            _marks.Add(Stopwatch.GetTimestamp());
            return _marks.Count - 1;
        }

        public override double SecondsAt(int mark) => Stopwatch.GetElapsedTime(_marks[0], _marks[mark]).TotalSeconds;

        protected override void Dispose(bool disposing) => _marks.Clear();
    }
}
